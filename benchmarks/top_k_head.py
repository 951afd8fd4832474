"""What a top-k output of a chip's LM head could save: bytes over the bus, and time of sampling.

Samples from rows of all logits, and from the k largest of the same rows, as a graph would have
given them beside their log-sum-exp. Rows are normal numbers and a peak, as flat as those of a model
that is not sure. The time is the thread's own.

Usage: top_k_head.py [--vocab 55296] [--k 256] [--rows 200]
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from time import thread_time

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.params import SamplingParams
from runtime.sampling.sampler import Sampler, make_rng
from toolchain.table import Table, markdown_table

SETTINGS = {
    "temperature 0": SamplingParams(temperature=0.0),
    "top_k 40, top_p 0.9": SamplingParams(temperature=0.7, top_k=40, top_p=0.9),
    "top_p 0.9": SamplingParams(temperature=0.7, top_p=0.9),
    "temperature alone": SamplingParams(temperature=0.7),
}
SPREAD, PEAK = 2.0, 12.0  # of logits, and how far the likeliest id is above them
FLOAT32, INT32 = 4, 4  # bytes

Rows = Sequence[NDArray[np.float32]]


def median_us(sample: Callable[[NDArray[np.float32]], int], rows: Rows) -> float:
    """Microseconds for a row."""
    times = []
    for row in rows:
        before = thread_time()
        sample(row)
        times.append(thread_time() - before)
    return 1e6 * statistics.median(times)


def main() -> None:
    """Prints both counts as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=55_296)
    parser.add_argument("--k", type=int, default=256)
    parser.add_argument("--rows", type=int, default=200)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = [
        (SPREAD * rng.standard_normal(arguments.vocab)).astype(np.float32)
        for _ in range(arguments.rows)
    ]
    for row in rows:
        row[rng.integers(arguments.vocab)] = PEAK
    largest = [np.sort(row)[::-1][: arguments.k].copy() for row in rows]
    cells = []
    for name, params in SETTINGS.items():
        times = [
            median_us(Sampler(params, [1], each[0].size, make_rng(0)).sample, each)
            for each in (rows, largest)
        ]
        cells.append((name, f"{times[0]:,.0f}", f"{times[1]:,.0f}", f"{times[0] - times[1]:,.0f}"))
    columns = ("sampling", "from all, us", f"from {arguments.k}, us", "saved, us")
    print(*markdown_table(Table(title="", columns=columns, rows=tuple(cells))), sep="\n")
    sizes = FLOAT32 * arguments.vocab, (FLOAT32 + INT32) * arguments.k + FLOAT32
    print(f"\nbytes of a token over the bus: {sizes[0]:,} for all, {sizes[1]:,} for the largest")


if __name__ == "__main__":
    main()
