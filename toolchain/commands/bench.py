"""toolchain bench COMPILED."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]

INPUT_LENS, OUTPUT_LEN = (32, 128, 512), 32


def command(
    bundle: Annotated[Path, typer.Argument(metavar="COMPILED", help="Compiled bundle.")],
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each case.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure first-token time and time per token on this machine."""
    import json
    from dataclasses import asdict

    from runtime.bundle import load_bundle
    from toolchain.bench import Case, bench
    from toolchain.console import print_table

    loaded = load_bundle(bundle)
    room = loaded.manifest.cache_len - OUTPUT_LEN
    cases = [Case(input_len=n, output_len=OUTPUT_LEN) for n in INPUT_LENS if n <= room]
    results = list(bench(loaded, cases, repeats))
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=2))
        return
    rows = [
        (
            f"{result.case.input_len} in, {result.case.output_len} out",
            f"{result.ttft_ms:.1f}",
            f"{result.tpot_ms:.2f}",
            f"{1e3 * result.case.input_len / result.ttft_ms:.0f}",
            f"{1e3 / result.tpot_ms:.0f}",
        )
        for result in results
    ]
    columns = ("tokens", "first token ms", "ms/token", "prefill tok/s", "decode tok/s")
    print_table(f"{bundle}, median of {repeats}", columns, rows)
