"""First-token time and time per token of a compiled bundle, by prompt and output length."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from runtime.bundle import Bundle
from runtime.engine import Engine
from runtime.generate import generate
from runtime.sampling import SamplingParams
from runtime.sessions import open_session
from runtime.timing import Stopwatch, Timings

__all__ = ["Case", "Measurement", "bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Tokens in and tokens out, of one sequence."""

    input_len: int
    output_len: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Medians over the repeats of one case; ids are random, sampling is greedy."""

    case: Case
    ttft_ms: float
    tpot_ms: float


def bench(bundle: Bundle, cases: Sequence[Case], repeats: int) -> Iterator[Measurement]:
    """Runs each case once untimed, then `repeats` times, always from an empty cache slot."""
    rng = np.random.default_rng(0)
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        for case in cases:
            # Each run has its own ids, so that no prefix is found in the cache.
            prompts = rng.integers(0, engine.vocab_size, (repeats + 1, case.input_len))
            runs = [_run(engine, ids.tolist(), case.output_len) for ids in prompts][1:]
            per_token = [run.tpot_ms for run in runs if run.tpot_ms is not None]
            yield Measurement(
                case=case,
                ttft_ms=float(np.median([run.ttft_ms for run in runs])),
                tpot_ms=float(np.median(per_token)),
            )


def _run(engine: Engine, prompt_ids: list[int], output_len: int) -> Timings:
    watch = Stopwatch()
    watch.tokenized = watch.started
    params = SamplingParams(max_tokens=output_len, ignore_eos=True)
    for token in generate(engine, prompt_ids, params):
        watch.saw_token(token.logits_at, token.sampled_at)
    return watch.timings(len(prompt_ids), output_len)
