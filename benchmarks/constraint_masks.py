"""What binding an answer costs per token, beside the token itself.

Decodes on the bundle, alternating between free and bound answers. For each bound token the
constraint makes a mask and is told which id was chosen; sampling then chooses from what is allowed,
which can be faster than from all. The time of a mask is the thread's own, so that a busy machine
does not count; that of a free token is the median of the fastest round. The tokenizer is one of
real words, such as Chinese-Alpaca-2's; the bundle may have another with no fewer ids.

Usage: constraint_masks.py COMPILED TOKENIZER_MODEL [--tokens 256] [--rounds 4] [--top-p 0.95]
"""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import thread_time

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.reader import load_bundle
from runtime.constrain import open_compiler
from runtime.constrain.grammar import Grammar
from runtime.engine.engine import Engine
from runtime.sampling.constraint import Constraint, ConstraintSpec
from runtime.sampling.params import SamplingParams
from runtime.sampling.sampler import Sampler, make_rng
from runtime.sessions import open_session
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.timing import now

PERSON = {
    "type": "object",
    "properties": {
        "姓名": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "phone": {"type": "string", "pattern": "^1[0-9]{10}$"},
        "level": {"enum": ["low", "middle", "high"]},
        "notes": {"type": "array", "items": {"type": "string", "maxLength": 200}, "maxItems": 4},
    },
    "required": ["姓名", "age", "phone", "level", "notes"],
    "additionalProperties": False,
}
SPECS = {
    "any JSON": ConstraintSpec(kind="json_schema", value="{}"),
    "a schema of five properties": ConstraintSpec(kind="json_schema", value=json.dumps(PERSON)),
    "a date, `--regex`": ConstraintSpec(kind="regex", value=r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    "any Chinese text, `--regex`": ConstraintSpec(kind="regex", value=r"[一-龥，。！？\n]*"),
    "40 choices": ConstraintSpec(kind="choice", value=tuple(f"选项 {i}" for i in range(40))),
}
PROMPT = [1, 5, 9]


@dataclass
class Times:
    """Seconds of each token."""

    decode: list[float] = field(default_factory=list)
    sample: list[float] = field(default_factory=list)
    mask: list[float] = field(default_factory=list)  # what the constraint took of it


class Timed:
    """A Constraint with clocks around it; begins the next answer where one has ended."""

    def __init__(self, grammar: Grammar, eos_token_id: int) -> None:
        self._grammar, self._eos_token_id = grammar, eos_token_id
        self._inner = self._start()
        self.last = 0.0

    def _start(self) -> Constraint:
        return self._grammar.start(at_start=True, stop_token_ids=(self._eos_token_id,))

    @property
    def ended(self) -> bool:
        return False

    def allowed(self) -> NDArray[np.bool_]:
        if self._inner.ended:
            self._inner = self._start()
        start = thread_time()
        mask = self._inner.allowed()
        self.last = thread_time() - start
        return mask

    def accept(self, token_id: int) -> None:
        start = thread_time()
        self._inner.accept(token_id)
        self.last += thread_time() - start

    def valid_prefix(self, token_ids: Sequence[int]) -> int:
        return self._inner.valid_prefix(token_ids)

    def rollback(self, num_tokens: int) -> None:
        self._inner.rollback(num_tokens)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-p", type=float, default=0.95)
    return parser.parse_args()


def decode(
    engine: Engine, params: SamplingParams, seed: int, num: int, constraint: Timed | None
) -> Times:
    """Times of so many tokens."""
    times = Times()
    sampler = Sampler(params, PROMPT, engine.vocab_size, make_rng(seed), constraint)
    with engine.slot(PROMPT) as slot:
        logits = engine.prefill(slot, PROMPT)
        for _ in range(num):
            start = now()
            token_id = sampler.sample(logits)
            sampled = now()
            times.sample.append(sampled - start)
            times.mask.append(constraint.last if constraint else 0.0)
            logits = engine.decode([slot], [token_id])[0]
            times.decode.append(now() - sampled)
    return times


def add(total: Times, part: Times) -> None:
    """Appends the times of a round."""
    total.decode += part.decode
    total.sample += part.sample
    total.mask += part.mask


def row(name: str, bound: Times, token: float) -> str:
    """A line of the table; `token` is the time of a free one, in seconds."""
    masks = np.array(bound.mask)
    return (
        f"| {name} | {1e3 * np.median(masks):.3f} | {1e3 * masks.mean():.3f} "
        f"| {1e3 * np.quantile(masks, 0.99):.3f} | {1e3 * statistics.median(bound.sample):.2f} "
        f"| {100 * masks.mean() / token:.2f} % |"
    )


def main() -> None:
    """Measures and prints a table."""
    arguments = parse()
    params = SamplingParams(temperature=arguments.temperature, top_p=arguments.top_p)
    tokenizer = SentencePieceTokenizer(arguments.tokenizer)
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {sys.version[:6]}")
    print(f"llguidance {version('llguidance')}, numpy {np.__version__}")
    with closing(open_session(load_bundle(arguments.bundle))) as session:
        engine = Engine(session)
        start = now()
        compiler = open_compiler(tokenizer, engine.vocab_size)
        print(f"tokenizer of {tokenizer.vocab_size} pieces opened in {now() - start:.2f} s")
        compiled = {}
        for name, spec in SPECS.items():
            start = now()
            compiled[name] = compiler.compile(spec)
            print(f"{name}: compiled in {1e3 * (now() - start):.1f} ms")
        free, bound = list[Times](), {name: Times() for name in SPECS}
        for seed in range(arguments.rounds):
            free.append(decode(engine, params, seed, arguments.tokens, None))
            for name, grammar in compiled.items():
                timed = Timed(grammar, tokenizer.eos_token_id)
                add(bound[name], decode(engine, params, seed, arguments.tokens, timed))
    medians = [(statistics.median(t.decode), statistics.median(t.sample)) for t in free]
    token, sample = min((decoded + sampled, sampled) for decoded, sampled in medians)
    print(f"a free token: {1e3 * token:.2f} ms, of which sampling {1e3 * sample:.2f} ms")
    print("| constraint | mask ms, median | mean | p99 | sampling ms | share of a token |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, times in bound.items():
        print(row(name, times, token))


if __name__ == "__main__":
    main()
