"""Tokens/s of decode steps of several sequences, against those of one, by instruction set.

Each instruction set that this machine has multiplies in a session of its own. In a round every
graph does a few steps behind 32 rows, one graph right after the other. Medians of the rounds.

Usage: batched_steps.py BUNDLE [--rounds 10] [--instruction-sets avx2 ...]
"""

import argparse
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from statistics import median

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import load_bundle
from runtime.kernels.library import Kernels
from runtime.sessions import open_session
from runtime.sessions.base import Chunk, Session
from runtime.threads import usable_threads
from runtime.timing import now
from toolchain.host.machine import cpu_name

STEPS = 5  # of a round; the first of them is not counted
START = 32  # rows that each sequence has


def milliseconds(session: Session, graph: Graph) -> float:
    """Of a step of as many sequences as the graph runs."""
    chunks = [
        Chunk(slot=slot, start=START, token_ids=[7 + slot]) for slot in range(graph.spec.batch_size)
    ]
    times = []
    for _ in range(STEPS):
        started = now()
        session.run(graph, chunks)
        times.append(1e3 * (now() - started))
    return median(times[1:])


def compared(session: Session, graphs: Sequence[Graph], rounds: int) -> list[tuple[float, float]]:
    """Milliseconds of a step of each graph, and its tokens/s as a multiple of the first one's."""
    found = [[milliseconds(session, graph) for graph in graphs] for _ in range(1 + rounds)][1:]
    return [
        (
            median(times[i] for times in found),
            median(graph.spec.batch_size * times[0] / times[i] for times in found),
        )
        for i, graph in enumerate(graphs)
    ]


def main() -> None:
    """Measures, and prints a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    kernels = Kernels()
    names = kernels.instruction_sets
    parser.add_argument("--instruction-sets", nargs="+", choices=names, default=names)
    given = parser.parse_args()
    bundle = load_bundle(given.bundle)
    decode = [graph for graph in bundle.manifest.graphs if graph.spec.phase == "decode"]
    graphs = sorted(decode, key=lambda graph: graph.spec.batch_size)
    print(
        f"{usable_threads()} threads of {cpu_name()}, {date.today()}, {given.rounds} rounds\n\n"
        "| multiplied by | sequences | ms a step | tokens/s against one |\n|---|--:|--:|--:|"
    )
    for name in given.instruction_sets:
        kernels.select(name)
        with closing(open_session(bundle)) as session:
            found = compared(session, graphs, given.rounds)
        for graph, (ms, gain) in zip(graphs, found, strict=True):
            print(f"| {name} | {graph.spec.batch_size} | {ms:.1f} | {gain:.2f} |")


if __name__ == "__main__":
    main()
