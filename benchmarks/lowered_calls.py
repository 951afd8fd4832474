"""What a token and a prompt of the 7B's shape take on Ascend chips: as lowered, and at the limit.

Nothing runs. Every graph is traced without weights, lowered for its chip and counted kernel by
kernel (toolchain/targets/ascend/traffic.py). The limit is what no program can do without: every
weight and the rows of the cache once, and the operations of the products, at the rates that models
reach, which stand in the profiles. A decode graph has one new row, a prefill graph 512, or as many
as the cache.

Usage: lowered_calls.py [--profiles 310p3 910b3] [--weights fp16 int8] [--rows 128 2048 4096]
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from seven_b import write_config

from export.config import load_config
from profiles import Profile, load_profile
from runtime.bundle.manifest import GraphSpec, ModelConfig, Phase
from toolchain.choices import Choices
from toolchain.plan.graph_calls import GraphCall
from toolchain.plan.planner import count_graphs, make_plan
from toolchain.table import Table, markdown_table

LAYERS, PREFILL_ROWS = 32, 512
COLUMNS = ("chip", "weights", "rows", "kernels", "moves, GB", "ms", "least, GB", "limit, ms")


def with_rows(profile: Profile, rows: int) -> Profile:
    """The profile with a prefill and a decode graph on a cache of so many rows."""
    lengths: dict[Phase, int] = {"prefill": min(PREFILL_ROWS, rows), "decode": 1}
    graphs = tuple(
        GraphSpec(phase=phase, batch_size=1, seq_len=seq_len, cache_len=rows)
        for phase, seq_len in lengths.items()
    )
    return profile.model_copy(update={"graphs": graphs, "short_caches": (), "slots": 1})


def calls(config: ModelConfig, profile: Profile, weights: str, rows: int) -> list[GraphCall]:
    """A prefill and a decode call."""
    deployment = Choices(weights=weights).apply(with_rows(profile, rows))
    return make_plan(config, deployment, counted=count_graphs(config, deployment)).calls


def cells(call: GraphCall) -> tuple[str, ...]:
    """The figures of a call."""
    assert call.lowered is not None, "the graphs of a chip are counted"
    return (
        f"{call.lowered.kernels:,}",
        f"{call.lowered.num_bytes / 1e9:.2f}",
        f"{1000 * call.lowered.seconds:.1f}",
        f"{call.least_bytes / 1e9:.2f}",
        f"{1000 * call.limit_s:.1f}",
    )


def tables(
    config: ModelConfig, profiles: list[str], precisions: list[str], lengths: list[int]
) -> Iterator[Table]:
    """One of a token, and one of the rows of a prompt."""
    found = [
        (name, weights, rows, calls(config, load_profile(name), weights, rows))
        for name in profiles
        for weights in precisions
        for rows in lengths
    ]
    for title, phase in (("per token", 1), ("512 rows of a prompt", 0)):
        yield Table(
            title=title,
            columns=COLUMNS,
            rows=tuple(
                (name, weights, f"{rows:,}", *cells(pair[phase]))
                for name, weights, rows, pair in found
            ),
        )


def main() -> None:
    """Prints both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", nargs="+", default=["310p3", "910b3"])
    parser.add_argument("--weights", nargs="+", default=["fp16", "int8"])
    parser.add_argument("--rows", nargs="+", type=int, default=[128, 2048, 4096])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        write_config(Path(directory), LAYERS)
        config = load_config(Path(directory))
    for table in tables(config, arguments.profiles, arguments.weights, arguments.rows):
        print(*markdown_table(table), "", sep="\n")


if __name__ == "__main__":
    main()
