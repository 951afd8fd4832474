"""What many requests at once, reused prefixes and drafts bring, as ratios of one run.

The model has the shape of Chinese-Alpaca-2-7B with fewer layers and random int4 weights. Each
measure alternates what it compares, round by round, and shows the median of the rounds' ratios.

- batch 4, batch 8: tokens/s of a decode step against those of the matrix products alone, which are
  run with as many rows in a session of their own.
- together: eight requests of 256 tokens in and 128 out that arrive together, against the same one
  after the other.
- prefix: first-token time of a prompt whose first 1,024 of 1,040 tokens are in the cache.
- edit, free: tokens/s with drafts against without. Random weights say nothing, so the tokens are
  given: an editor that repeats a text of 400 tokens with every 40th changed, and a text without
  repetitions. Each is one id made the likeliest by far, at the full cost of every call.
- gap: longest time between two tokens of a stream while a prompt of 1,024 tokens is run, against
  the longest chunk and the longest decode step of the same run.
- scheduler: milliseconds of a step at batch 8 on a session that computes nothing.

Usage: many_requests.py [--layers 8] [--rounds 5] [--only batch gap ...] [--json FILE]
                        [--directory build/many]
"""

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median

from request_models import Products, make_bundle
from request_sessions import Given, Nothing

from runtime.engine.engine import Engine
from runtime.engine.scheduler import Policy, Scheduler
from runtime.engine.sequence import Request
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.sessions.base import Session
from runtime.threads import usable_threads
from runtime.timing import now
from toolchain.host.machine import cpu_name

CACHE_LEN = 1536
VOCAB = 55_296


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A line of the table: the median, what it should reach, and every round's value."""

    name: str
    value: float
    goal: str
    rounds: list[float]


class Bench:
    """One loaded bundle, and the ways to run requests on it."""

    def __init__(self, session: Session, rounds: int) -> None:
        self.session = session
        self.rounds = rounds
        self.rng = Random(0)

    def prompt(self, length: int) -> list[int]:
        """Random ids; no two prompts begin alike."""
        return [self.rng.randrange(3, VOCAB) for _ in range(length)]

    def run_all(self, scheduler: Scheduler, prompts: Sequence[list[int]], new: int) -> float:
        """Seconds of requests that arrive together."""
        params = SamplingParams(max_tokens=new, ignore_eos=True)
        started = now()
        for prompt in prompts:
            scheduler.add(Request(prompt_ids=prompt, params=params))
        while not scheduler.is_idle:
            scheduler.step()
        return now() - started

    def median_ratio(self, name: str, goal: str, measure: Callable[[], float]) -> Figure:
        """Measures all rounds; a first one is not counted."""
        measure()
        values = [measure() for _ in range(self.rounds)]
        print(f"{name}: {median(values):.3f} ({', '.join(f'{v:.3f}' for v in values)})", flush=True)
        return Figure(name=name, value=median(values), goal=goal, rounds=values)


PLAIN = Policy(speculate=False)
WITHOUT_REUSE = {"reuse_prefix": False}


def batch(bench: Bench, products: Products, size: int) -> Figure:
    """Decode steps of a batch against its products alone."""

    def measure() -> float:
        scheduler = Scheduler(Engine(bench.session, **WITHOUT_REUSE), PLAIN)
        params = SamplingParams(max_tokens=40, ignore_eos=True)
        for _ in range(size):
            scheduler.add(Request(prompt_ids=bench.prompt(8), params=params))
        while scheduler.counters.decode_calls < 8 or scheduler.num_waiting:
            scheduler.step()
        steps, alone = [], []
        products.run(size)  # the first time makes its rows
        for _ in range(16):
            started = now()
            scheduler.step()
            between = now()
            products.run(size)
            steps.append(between - started)
            alone.append(now() - between)
        return median(alone) / median(steps)

    return bench.median_ratio(f"batch {size}", ">= 0.92 of the products", measure)


def together(bench: Bench) -> Figure:
    """Eight requests beside each other against one after the other."""

    def measure() -> float:
        prompts = [bench.prompt(256) for _ in range(8)]
        one = Scheduler(Engine(bench.session, **WITHOUT_REUSE), PLAIN)
        alone = sum(bench.run_all(one, [prompt], 128) for prompt in prompts)
        all_at_once = Scheduler(Engine(bench.session, **WITHOUT_REUSE), PLAIN)
        return alone / bench.run_all(all_at_once, prompts, 128)

    return bench.median_ratio("together", ">= 1.7", measure)


def prefix(bench: Bench) -> Figure:
    """First token of a prompt whose beginning is in the cache against one that is not."""

    def measure() -> float:
        scheduler = Scheduler(Engine(bench.session), PLAIN)
        start = bench.prompt(1024)
        first = bench.run_all(scheduler, [start + bench.prompt(16)], 1)
        return first / bench.run_all(scheduler, [start + bench.prompt(16)], 1)

    return bench.median_ratio("prefix", ">= 8", measure)


def drafts(bench: Bench, name: str, goal: str, text: Sequence[int], prompt_tokens: int) -> Figure:
    """A text that is given, with drafts against without."""
    given = Given(bench.session, [*text, 3])
    new = len(text) - prompt_tokens

    def measure() -> float:
        seconds = []
        for policy in (PLAIN, Policy()):
            engine = Engine(given, **WITHOUT_REUSE)
            params = SamplingParams(max_tokens=new, ignore_eos=True)
            scheduler = Scheduler(engine, policy)
            sequence = scheduler.add(Request(prompt_ids=text[:prompt_tokens], params=params))
            while not sequence.tokens:
                scheduler.step()
            started = now()
            while not scheduler.is_idle:
                scheduler.step()
            seconds.append(now() - started)
            assert [token.id for token in sequence.tokens] == list(text[prompt_tokens:])
        return seconds[0] / seconds[1]

    return bench.median_ratio(name, goal, measure)


def edit(bench: Bench) -> Figure:
    """Repeats a text with a change here and there."""
    original = bench.prompt(400)
    changed = [3 + i % 50 if i % 40 == 20 else token for i, token in enumerate(original)]
    return drafts(bench, "edit", ">= 1.6", [*original, *changed], 401)


def free(bench: Bench) -> Figure:
    """A text in which pairs of words come back now and then, as in a language."""
    words = bench.prompt(60)
    text = bench.rng.choices(words, weights=[1 / (1 + i) for i in range(60)], k=300)
    return drafts(bench, "free", ">= 0.97", text, 150)


def gap(bench: Bench) -> Figure:
    """The longest wait of a stream while a long prompt is run."""

    def measure() -> float:
        scheduler = Scheduler(Engine(bench.session, **WITHOUT_REUSE), PLAIN)
        params = SamplingParams(max_tokens=60, ignore_eos=True)
        stream = scheduler.add(Request(prompt_ids=bench.prompt(16), params=params))
        while stream.num_tokens < 5:
            scheduler.step()
        one = SamplingParams(max_tokens=1)
        scheduler.add(Request(prompt_ids=bench.prompt(1024), params=one))
        times, parts, decodes = list[float](), list[float](), list[float]()
        while stream.num_tokens < 40:
            before, started = scheduler.counters.prompt_parts, now()
            scheduler.step()
            was_part = scheduler.counters.prompt_parts > before
            (parts if was_part else decodes).append(now() - started)
            if not was_part:
                times.append(now())
        longest = max(b - a for a, b in pairwise(times))
        return longest / (max(parts) + max(decodes))

    return bench.median_ratio("gap", "<= 1", measure)


def scheduler_alone(bench: Bench) -> Figure:
    """Milliseconds of a step at batch 8 but for the graph."""

    def measure() -> float:
        scheduler = Scheduler(Engine(Nothing(bench.session.manifest)))
        params = SamplingParams(max_tokens=1000, ignore_eos=True)
        for _ in range(8):
            scheduler.add(
                Request(prompt_ids=[bench.rng.randrange(32) for _ in range(9)], params=params)
            )
        while scheduler.counters.decode_calls < 20 or scheduler.num_waiting:
            scheduler.step()
        started = now()
        for _ in range(500):
            scheduler.step()
        return (now() - started) / 500 * 1e3

    return bench.median_ratio("scheduler", "<= 0.2 ms", measure)


MEASURES: dict[str, Callable[[Bench, Products], Figure]] = {
    "batch4": lambda bench, products: batch(bench, products, 4),
    "batch8": lambda bench, products: batch(bench, products, 8),
    "together": lambda bench, _: together(bench),
    "prefix": lambda bench, _: prefix(bench),
    "edit": lambda bench, _: edit(bench),
    "free": lambda bench, _: free(bench),
    "gap": lambda bench, _: gap(bench),
    "scheduler": lambda bench, _: scheduler_alone(bench),
}


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--directory", type=Path, default=Path("build/many"))
    arguments = parser.parse_args()
    bundle = make_bundle(arguments.directory, arguments.layers, CACHE_LEN)
    with closing(open_session(bundle)) as session:
        bench, products = Bench(session, arguments.rounds), Products(bundle)
        figures = [MEASURES[name](bench, products) for name in arguments.only]
    print(
        f"\n{cpu_name()}, {usable_threads()} threads, {arguments.layers} layers, int4, "
        f"ONNX Runtime {version('onnxruntime')}, {date.today()}\n"
    )
    print("| measure | median | goal |\n|---|--:|---|")
    for figure in figures:
        print(f"| {figure.name} | {figure.value:.3f} | {figure.goal} |")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2))


if __name__ == "__main__":
    main()
