"""Time and memory of making the .air graphs of the 7B's shape; no weight is needed or written.

The process that imports torchair makes the graphs one after the other. Memory is the most that it
had resident, as the kernel counts it for a child that has ended.

Usage: torchair_graphs.py [--profile 910b3] [--weights fp16] [--graphs prefill_s512 decode_b1]
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from seven_b import write_config

from export.config import load_config
from export.graphs import chip_graph, program_rows
from profiles import load_profile
from runtime.bundle.reader import GRAPHS_DIR
from runtime.progress import SILENT
from toolchain.table import Table, markdown_table
from toolchain.targets.ascend.air_process import make_airs, require_torchair

LAYERS = 32


def main() -> None:
    """Makes the graphs and prints a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="910b3")
    parser.add_argument("--weights", default="fp16", choices=["fp16", "int8"])
    parser.add_argument("--graphs", nargs="+", default=["prefill_s512", "decode_b1"])
    arguments = parser.parse_args()
    torchair, profile = require_torchair(), load_profile(arguments.profile)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_config(directory, LAYERS)
        config, rows = load_config(directory), program_rows(profile.graphs)
        (directory / GRAPHS_DIR).mkdir()
        specs = [spec for spec in profile.graphs if spec.name in arguments.graphs]
        graphs = [chip_graph(config, spec, rows, "", 1.0) for spec in specs]
        group_size = profile.block_size if arguments.weights == "int8" else None
        began = time.monotonic()
        log = directory / "log"
        make_airs(torchair, config, group_size, graphs, directory, log, SILENT)
        seconds = time.monotonic() - began
        sizes = [(directory / GRAPHS_DIR / f"{spec.name}.air").stat().st_size for spec in specs]
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    table = Table(
        title="graphs",
        columns=("graphs", "weights", "bytes of each", "s in all", "most memory, MB"),
        rows=(
            (
                ", ".join(spec.name for spec in specs),
                arguments.weights,
                ", ".join(f"{size:,}" for size in sizes),
                f"{seconds:.0f}",
                f"{memory / 1e6:.0f}",
            ),
        ),
    )
    print(*markdown_table(table), sep="\n")


if __name__ == "__main__":
    main()
