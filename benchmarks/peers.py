"""How fast a Llama of 7B shape runs here and in other engines on this CPU, in one run.

All engines run one checkpoint of random weights, each quantized by its own tool with its usual
options, in processes that stay loaded. In a round every engine does every case, one engine right
after the other, so that what else happens to the machine happens to all of them; a first round is
not counted. Medians over the rounds are shown; a ratio is the median of the rounds' ratios.

A prefill is a new sequence of random ids, until the next token is known; a decode is the median
of single greedy steps after as many ids. The share of the bandwidth counts the bytes of weights
and cache that a step reads at least. The first run makes the environments, for which llama.cpp is
compiled, again where the CPU has other instructions, and the models. With 8 layers they take 22 GB
of disk; the processes, all of which stay loaded, take the memory that the last table adds up to.

Usage: peers.py [--layers 8 | --full] [--engines ours-int4 ...] [--rounds 5] [--json FILE]
                [--directory build/peers]
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from datetime import date
from pathlib import Path

from engine_process import EngineProcess
from peer_models import ENGINES, LONG_ONLY, command, make_models
from peer_results import CASES, EngineResults, Results, prefill
from peer_tables import markdown

from runtime.kernels.library import Kernels
from runtime.threads import usable_threads
from toolchain.host.machine import cpu_features, cpu_name, read_bandwidth, total_memory

FULL_LAYERS = 32
FULL_ENGINES = ["ours-int4-kv8", "llama.cpp-q4_0"]  # all do not fit into 24 GB
CONTEXT_LEN = 2560  # holds the longest case; a multiple of 256, as llama.cpp wants it
WARM_UP = prefill(32)  # after an engine stood still, and as its first prompt


def start(
    names: Sequence[str], directory: Path, layers: int, context_len: int, stack: ExitStack
) -> dict[str, EngineProcess]:
    """Loads the models one after the other; the stack ends the processes."""
    logs = directory / "logs"
    logs.mkdir(exist_ok=True)
    processes = {}
    for name in names:
        print(f"loading {name}", file=sys.stderr)
        process = EngineProcess(command(name, directory, layers, context_len), logs / f"{name}.log")
        processes[name] = stack.enter_context(closing(process))
    return processes


def measure(
    processes: dict[str, EngineProcess], rounds: int
) -> tuple[dict[str, EngineResults], dict[str, list[float]]]:
    """Runs all rounds, the first of which is not counted.

    Returns:
        The engines' results, and for every case the bandwidth just before it in each round.
    """
    names = list(processes)
    first_ms = {name: processes[name].ask(WARM_UP)["ms"][0] for name in names}
    samples: dict[str, dict[str, list[list[float]]]] = {
        name: {case: [] for case in CASES} for name in names
    }
    bandwidths: dict[str, list[float]] = {case: [] for case in CASES}
    for count in range(1 + rounds):
        print(f"round {count} of {rounds}", file=sys.stderr)
        first = count % len(names)
        for case in CASES:
            if count > 0:
                bandwidths[case].append(read_bandwidth())
            for name in names[first:] + names[:first]:
                milliseconds = processes[name].ask(WARM_UP, case)["ms"]
                if count > 0:
                    samples[name][case].append(milliseconds)
    engines = {
        name: EngineResults(
            **process.facts,
            first_ms=first_ms[name],
            memory_mb=process.ask("memory"),
            samples=samples[name],
        )
        for name, process in processes.items()
    }
    return engines, bandwidths


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--full", action="store_const", dest="layers", const=FULL_LAYERS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path("build/peers"))
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    """Makes what is missing, measures and prints the tables."""
    arguments = parse_arguments()
    directory, layers = arguments.directory.resolve(), arguments.layers
    usual = [name for name in ENGINES if name not in LONG_ONLY]
    names = arguments.engines or (FULL_ENGINES if layers == FULL_LAYERS else usual)
    make_models(names, directory, layers, CONTEXT_LEN)
    with ExitStack() as stack:
        engines, bandwidths = measure(
            start(names, directory, layers, CONTEXT_LEN, stack), arguments.rounds
        )
    results = Results(
        date=date.today().isoformat(),
        cpu=cpu_name(),
        features=cpu_features(),
        kernels=Kernels().instruction_sets[0],
        cores=usable_threads(),
        memory_bytes=total_memory(),
        layers=layers,
        rounds=arguments.rounds,
        bandwidths=bandwidths,
        engines=engines,
    )
    print("\n".join(markdown(results)))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(asdict(results), indent=1))


if __name__ == "__main__":
    main()
