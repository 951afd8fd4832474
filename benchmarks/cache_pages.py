"""What small pages of the KV cache cost a token that reads many rows, against huge ones.

Two sessions on one bundle: one with a cache in small pages, one with numpy's, which are huge where
the system gives them on advice. Both have the same random rows. In a round each does
a few tokens behind so many rows, one right after the other, by turns first. Ratios are of the
rounds, with quartiles.

Usage: cache_pages.py BUNDLE [--rows 32 512 1024 2047] [--rounds 10]
"""

import argparse
from contextlib import ExitStack, closing
from datetime import date
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import load_bundle
from runtime.sessions import open_session
from runtime.sessions.base import Chunk, Session
from runtime.sessions.cache_memory import CacheMemory
from runtime.sessions.onnx.cpu import CpuSession
from runtime.threads import usable_threads
from runtime.timing import now
from toolchain.host.machine import cpu_name

TOKENS = 4  # of a round; the first of them is not counted


def milliseconds(session: Session, graph: Graph, rows: int) -> float:
    """Of a token behind so many rows."""
    times = []
    for _ in range(TOKENS):
        started = now()
        session.run(graph, [Chunk(slot=0, start=rows, token_ids=[7])])
        times.append(1e3 * (now() - started))
    return median(times[1:])


def fill(session: CpuSession, rows: int) -> None:
    """Gives the first slot so many rows."""
    rng = np.random.default_rng(0)
    for cache in (*session.keys, *session.values):
        heads, _, size = cache[0].shape
        cache[0, :, :rows] = 8 * rng.standard_normal((heads, rows, size), np.float32)


def small_pages(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    return CacheMemory(shape, dtype).array


def huge_pages() -> float:
    """GB of this process that lie in huge pages of its own."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    [found] = [line.split()[1] for line in lines if line.startswith("AnonHugePages:")]
    return int(found) * 1024 / 1e9


def main() -> None:
    """Measures, and prints a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 512, 1024, 2047])
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    bundle = load_bundle(given.bundle)
    graph = next(g for g in bundle.manifest.graphs if g.spec.name == "decode_b1")
    with ExitStack() as stack:
        small, huge = (stack.enter_context(closing(open_session(bundle))) for _ in range(2))
        assert isinstance(small, CpuSession), "the bundle is for a CPU"
        assert isinstance(huge, CpuSession), "the bundle is for a CPU"
        # Arrays of which the sessions know nothing, so that they ask the system for no other pages.
        for session, make in ((small, small_pages), (huge, np.zeros)):
            for caches in (session.keys, session.values):
                caches[:] = [make(each.shape, each.dtype) for each in caches]
        for session in (small, huge):
            fill(session, max(given.rows))
        print(
            f"{usable_threads()} threads of {cpu_name()}, {date.today()}, {given.rounds} rounds, "
            f"{huge_pages():.1f} GB in huge pages\n\n"
            "| rows | small, ms | huge, ms | small / huge | quartiles |\n|--:|--:|--:|--:|--:|"
        )
        for rows in given.rows:
            times: dict[CpuSession, list[float]] = {small: [], huge: []}
            for i in range(given.rounds):
                for session in (small, huge) if i % 2 else (huge, small):
                    times[session].append(milliseconds(session, graph, rows))
            ratios = [a / b for a, b in zip(times[small], times[huge], strict=True)]
            low, middle, high = quantiles(ratios, n=4)
            print(
                f"| {rows:,} | {median(times[small]):.1f} | {median(times[huge]):.1f} "
                f"| {middle:.3f} | {low:.3f} to {high:.3f} |"
            )


if __name__ == "__main__":
    main()
