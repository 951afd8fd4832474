"""What a long prompt costs here and in llama.cpp: prefill per 1,024 tokens, and decoding after it.

The models, the processes and their turns are those of peers.py; every engine has one cache that
holds the longest context, with an int8 cache for ours. llama.cpp runs with its defaults and with a
cache of Q8_0, which has as many bytes as ours. In a round every engine takes each context as one
sequence of random ids, and then some greedy steps. Medians over the rounds; a ratio is the median
of the rounds' ratios. A round takes tens of minutes; a first one is not counted, unless --rounds
is 1.

Usage: long_context.py [--layers 8] [--contexts 1024 4096 16384] [--engines NAME ...]
                       [--rounds 1] [--steps 16] [--json FILE] [--directory build/peers]
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median

from engine_process import EngineProcess
from peer_models import ENGINES, make_models
from peers import WARM_UP, start

from runtime.kernels.library import Kernels
from runtime.threads import usable_threads
from toolchain.host.machine import cpu_name

DEFAULT_ENGINES = ["ours-int4-kv8", "llama.cpp-q4_0", "llama.cpp-q4_0-kv8"]
BLOCK = 256  # llama.cpp wants a multiple of it
PER = 1024  # tokens of a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One sequence of one engine: its prompt, then its steps, in milliseconds."""

    length: int
    ms: list[float]

    def prefill(self) -> float:
        """Milliseconds for each 1,024 tokens of the prompt."""
        return self.ms[0] * PER / self.length

    def decode(self) -> float:
        """Milliseconds of a step."""
        return median(self.ms[1:])


Phase = Callable[[Run], float]
PHASES: tuple[Phase, ...] = (Run.prefill, Run.decode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine: what it is, its runs by context, one of each round, and its memory after them."""

    settings: str
    cache_bytes: int
    memory_mb: dict[str, float]
    runs: dict[int, list[Run]]

    def values(self, context: int, phase: Phase) -> list[float]:
        """Milliseconds of a phase in each round."""
        return [phase(run) for run in self.runs[context]]


def measure(
    processes: dict[str, EngineProcess], contexts: Sequence[int], rounds: int, steps: int
) -> dict[str, Engine]:
    """Runs all rounds, context by context, one engine right after the other."""
    names = list(processes)
    runs: dict[str, dict[int, list[Run]]] = {name: {c: [] for c in contexts} for name in names}
    for count in range(rounds if rounds == 1 else 1 + rounds):
        first = count % len(names)
        for context in contexts:
            for name in names[first:] + names[:first]:
                print(f"round {count}: {context} tokens, {name}", file=sys.stderr, flush=True)
                ms = processes[name].ask(WARM_UP, f"whole {context} {steps}")["ms"]
                if count > 0 or rounds == 1:
                    runs[name][context].append(Run(length=context, ms=ms))
    return {
        name: Engine(
            settings=f"{process.facts['version']}, {process.facts['settings']}",
            cache_bytes=process.facts["cache_bytes"],
            memory_mb=process.ask("memory"),
            runs=runs[name],
        )
        for name, process in processes.items()
    }


def markdown(engines: dict[str, Engine], contexts: Sequence[int]) -> Iterator[str]:
    """The times, and how many times as fast the first engine is as the others."""
    yield _row(
        "engine",
        "cache kB/position",
        *(f"prefill {c:,}, ms per 1,024" for c in contexts),
        *(f"decode after {c:,}, ms" for c in contexts),
        "peak MB",
    )
    yield f"|---|{'--:|' * (2 + 2 * len(contexts))}"
    for name, engine in engines.items():
        times = [f"{median(engine.values(c, phase)):.1f}" for phase in PHASES for c in contexts]
        cache = f"{engine.cache_bytes / 1e3:.1f}"
        yield _row(name, cache, *times, f"{engine.memory_mb['peak']:.0f}")
    ours, *rivals = engines
    for rival in rivals:
        ratios = [
            f"{ratio(engines[ours], engines[rival], c, phase):.2f}"
            for phase in PHASES
            for c in contexts
        ]
        yield _row(f"{ours} is as fast as {rival} times", "", *ratios, "")
    yield ""
    for name, engine in engines.items():
        yield f"- {name}: {engine.settings}"


def ratio(ours: Engine, theirs: Engine, context: int, phase: Phase) -> float:
    """How many times as long the other takes, round by round."""
    pairs = zip(ours.values(context, phase), theirs.values(context, phase), strict=True)
    return median(other / own for own, other in pairs)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Makes what is missing, measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--contexts", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=DEFAULT_ENGINES)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--directory", type=Path, default=Path("build/peers"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    directory, layers, contexts = (
        arguments.directory.resolve(),
        arguments.layers,
        arguments.contexts,
    )
    cache_len = -(-(max(contexts) + arguments.steps) // BLOCK) * BLOCK
    make_models(arguments.engines, directory, layers, cache_len)
    with ExitStack() as stack:
        processes = start(arguments.engines, directory, layers, cache_len, stack)
        engines = measure(processes, contexts, arguments.rounds, arguments.steps)
    print(
        f"{cpu_name()}, {usable_threads()} cores, kernels {Kernels().instruction_sets[0]}, "
        f"{date.today().isoformat()}: {layers} layers, a cache of {cache_len:,} rows, "
        f"{arguments.rounds} rounds\n"
    )
    print("\n".join(markdown(engines, contexts)))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({n: asdict(e) for n, e in engines.items()}, indent=1))


if __name__ == "__main__":
    main()
