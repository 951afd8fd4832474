"""toolchain bench COMPILED..."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolchain.options import AsJson, JsonFile

if TYPE_CHECKING:
    from runtime.bundle.reader import Bundle
    from toolchain.bench.grid import Case, Grid

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
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Timed runs of each case.")] = 5,
    model_name: Annotated[
        str | None, typer.Option(help="Name in tables and files. Default: the bundle's directory.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="This .csv file, or in a directory one per batch size.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Directory for an HTML page with plots, and all files.")
    ] = None,
    as_json: AsJson = False,
    output: JsonFile = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Measure first-token time, time per token and the share of the memory bandwidth.

    The default is quick: 32, 128 and 512 tokens in, 32 out. docs/benchmarks.md defines the figures.

    Files are written after every case. An interrupted run goes on when it is started again.
    """
    from runtime.bundle.reader import load_bundle
    from runtime.console import LongWork, note
    from toolchain.bench.csv_file import check_names
    from toolchain.bench.outputs import Outputs
    from toolchain.bench.tables import print_results
    from toolchain.bench.whole_run import Wanted, run_all

    if report is not None:
        import toolchain.bench.report  # noqa: F401  # needs matplotlib; measuring is long
    grid = _grid(min_exp, max_exp, case or [], batch_size or [1])
    names = [model_name or path.resolve().name for path in bundles]
    check_names(names, csv)
    outputs = Outputs(json_file=output, csv=csv, report=report)
    outputs.require()
    opened = [load_bundle(path, LongWork()) for path in bundles]
    plans = [_cases(grid, bundle) for bundle in opened]
    wanted = Wanted(names=names, bundles=opened, plans=plans, mode=mode, repeats=repeats)
    results = run_all(wanted, outputs)
    print_results(results, as_json=as_json, as_markdown=as_markdown)
    for path in outputs.finish(results):
        note(f"wrote {path}")


def _cases(grid: "Grid", bundle: "Bundle") -> "list[Case]":
    from runtime.console import note
    from toolchain.bench.run import check_compiled

    check_compiled(bundle)
    cases, too_long = grid.cases(bundle.manifest.cache_len, bundle.manifest.max_batch_size)
    if too_long:
        note(f"{bundle.path}: cases left out as longer than its cache: {len(too_long)}")
    return cases


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
