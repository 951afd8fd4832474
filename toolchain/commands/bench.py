"""toolchain bench COMPILED..."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from toolchain.bench.grid import Grid

__all__ = ["command"]

MIN_EXP, MAX_EXP = 5, 10  # 32 to 1024 tokens, as atb_speed_sdk's README has it


def command(
    bundles: Annotated[list[Path], typer.Argument(metavar="COMPILED...", help="Compiled bundles.")],
    min_exp: Annotated[
        int | None, typer.Option(help="Shortest length, 2^N; 5 if only --max-exp is given.")
    ] = None,
    max_exp: Annotated[
        int | None, typer.Option(help="Longest length, 2^N; 10 if only --min-exp is given.")
    ] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(metavar="IN,OUT", help="Tokens in and out, instead of --min-exp; repeatable."),
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Sequences decoding in step; repeatable. Default: 1.")
    ] = None,
    mode: Annotated[
        Literal["normal", "detail"],
        typer.Option(help="detail: clocks around every forward pass; normal: estimates."),
    ] = "detail",
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each case.")] = 5,
    model_name: Annotated[
        str | None, typer.Option(help="Name in tables and files. Default: the bundle's directory.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="This .csv file, or in a directory one per batch size.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Directory for an HTML page with plots, and all files.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Measure first-token time, time per token and the share of the memory bandwidth.

    The default is quick: 32, 128 and 512 tokens in, 32 out. docs/benchmarks.md defines the figures.
    """
    from runtime.bundle.reader import load_bundle
    from runtime.console import note
    from toolchain.bench.csv_file import check_names, write_csv
    from toolchain.bench.run import bench
    from toolchain.bench.tables import print_results

    if report is not None:
        import toolchain.bench.report  # needs matplotlib; measuring is long
    grid = _grid(min_exp, max_exp, case or [], batch_size or [1])
    names = [model_name or path.resolve().name for path in bundles]
    check_names(names, csv)
    opened = [load_bundle(path) for path in bundles]
    plans = [grid.cases(b.manifest.cache_len, b.manifest.num_slots) for b in opened]
    results = []
    for name, bundle, (cases, too_long) in zip(names, opened, plans, strict=True):
        if too_long:
            note(f"{bundle.path}: cases left out as longer than its cache: {len(too_long)}")
        results.append(bench(bundle, cases, model=name, mode=mode, repeats=repeats))
    print_results(results, as_json=as_json, as_markdown=as_markdown)
    written = [] if csv is None else write_csv(results, csv)
    if report is not None:
        written += toolchain.bench.report.write_report(results, report)
    for path in written:
        note(f"wrote {path}")


def _grid(
    min_exp: int | None, max_exp: int | None, cases: list[str], batch_sizes: list[int]
) -> "Grid":
    from runtime.console import note
    from toolchain.bench.grid import Grid, case_pairs, power_pairs

    sizes = tuple(dict.fromkeys(batch_sizes))
    powers = min_exp is not None or max_exp is not None
    if cases:
        if powers:
            note("--case is given, so --min-exp and --max-exp have no effect")
        return Grid(pairs=case_pairs(cases), batch_sizes=sizes, asked_for=True)
    if powers:
        low = MIN_EXP if min_exp is None else min_exp
        high = MAX_EXP if max_exp is None else max_exp
        return Grid(pairs=power_pairs(low, high), batch_sizes=sizes)
    return Grid(batch_sizes=sizes)
