"""What a bundle says, and what it must have to say it on a card."""

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.kv_cache import common_prefix
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from tests.emulator.device import Emulator

SOC = {"310p3": "Ascend310P3", "910b3": "Ascend910B3"}
Card = Callable[..., Emulator]
TIE = 4  # steps of float16: each of two logits may be two off, by the layers before it


def greedy(bundle: Bundle, prompts: Sequence[list[int]], num_tokens: int) -> list[list[int]]:
    params = SamplingParams(max_tokens=num_tokens, ignore_eos=True)
    with closing(open_session(bundle)) as session:
        scheduler = Scheduler(Engine(session))
        requests = [Request(prompt_ids=prompt, params=params) for prompt in prompts]
        return [[token.id for token in generate(scheduler, request)] for request in requests]


def assert_same_or_tied(
    on_cpu: Bundle,
    prompts: Sequence[list[int]],
    ours: Sequence[list[int]],
    theirs: Sequence[list[int]],
) -> None:
    """Where another token is said, the best two are as good as each other in float16."""
    with closing(open_session(on_cpu)) as session:
        engine = Engine(session)
        for prompt, said, expected in zip(prompts, ours, theirs, strict=True):
            same = common_prefix(said, expected)
            if same < len(expected):
                with engine.slot(prompt) as slot:
                    logits = engine.prefill(slot, [*prompt, *expected[:same]])
                best = logits[expected[same]]
                assert best - logits[said[same]] <= TIE * np.spacing(np.float16(best))


def assert_shares_all(bundle: Bundle) -> None:
    """Counted anew from the files: what prefill and decode both take, of all that any takes."""
    sets = [set(graph.weights) for graph in bundle.manifest.graphs]
    sizes = {name: bundle.manifest.files[name].size for name in set.union(*sets)}
    shared = sum(sizes[name] for name in set.intersection(*sets))
    device = bundle.manifest.device
    assert device is not None
    assert (device.weight_bytes, device.shared_bytes) == (sum(sizes.values()), shared)
    assert shared >= 0.99 * sum(sizes.values())
