"""Results as tables of text, for a terminal, for Markdown and for the report, and as JSON."""

from collections.abc import Iterator, Sequence

from runtime.console import show, show_json
from runtime.documents import document
from toolchain.bench.llama_bench import COLUMNS as SPEED_COLUMNS
from toolchain.bench.llama_bench import speed_tests
from toolchain.bench.result import BenchResult, Row, Spread
from toolchain.console import print_table
from toolchain.table import Table, markdown_table

__all__ = ["facts", "markdown", "print_results", "result_tables", "results_json"]


BRIEFLY = ("latency", "roofline")  # what a terminal gets; --markdown prints every table
LATENCY = ("case", "first token ms", "ms/token", "gap p99 ms", "response s", "tok/s")
FORWARD = ("case", "forward first ms", "forward next ms", "pre next ms", "post next ms")
TEXT = ("case", "tokenize ms", "sample ms/token", "detokenize ms/token", "peak host memory MB")
ROOFLINE = (
    "case",
    "MB/token",
    "bandwidth GB/s",
    "decode reached %",
    "prefill Gop/s",
    "of float peak %",
)


def result_tables(result: BenchResult) -> Iterator[Table]:
    """Every figure of a result; medians, +- half of the width of the repeats."""
    rows = result.rows
    for title, columns, cells in (
        ("latency", LATENCY, [_latency(row) for row in rows]),
        (f"forward passes, {result.mode} mode", FORWARD, [_forward(row) for row in rows]),
        ("text and memory", TEXT, [_text(row) for row in rows]),
        ("roofline", ROOFLINE, [_roofline(row, result) for row in rows]),
    ):
        yield Table(title=title, columns=columns, rows=tuple(cells))
    tests = tuple(test.cells for test in speed_tests(result))
    yield Table(title="as llama-bench has it", columns=SPEED_COLUMNS, rows=tests)


def facts(result: BenchResult) -> Iterator[str]:
    """What was measured, on what."""
    machine = result.machine
    kernels = f", kernels {result.kernels}" if result.kernels else ""
    yield (
        f"{result.name}, {result.num_parameters / 1e6:,.0f} M parameters, "
        f"target {result.target}{kernels}"
    )
    yield (
        f"{result.device}, {machine.num_cores} cores, {machine.memory_bytes / 1e9:.0f} GB, "
        f"{machine.system}"
    )
    yield f"{result.engine}; {', '.join(f'{k} {v}' for k, v in machine.packages.items())}"
    yield (
        f"{result.date}, {result.mode} mode, median of {result.num_repeats} ± half of their "
        f"range, loaded in {result.load_s:.2f} s"
    )


def markdown(results: Sequence[BenchResult]) -> str:
    """All results, one after the other."""
    lines: list[str] = []
    for result in results:
        lines += [f"## {result.name}", "", *(f"- {fact}" for fact in facts(result)), ""]
        for table in result_tables(result):
            lines += [f"**{table.title}**", "", *markdown_table(table), ""]
    return "\n".join(lines)


def print_results(results: Sequence[BenchResult], *, as_json: bool, as_markdown: bool) -> None:
    """Prints one JSON document, Markdown, or the tables that matter most."""
    if as_json:
        show_json(results_json(results))
    elif as_markdown:
        show(markdown(results))
    else:
        for result in results:
            show("\n".join(facts(result)))
            for table in result_tables(result):
                if table.title in BRIEFLY:
                    print_table(table.title, table.columns, table.rows)


def results_json(results: Sequence[BenchResult]) -> str:
    """The document of one bundle, or one that has those of several."""
    if len(results) == 1:
        return results[0].model_dump_json(indent=2)
    return document("benches", {"results": [result.model_dump(mode="json") for result in results]})


def _case(row: Row) -> str:
    return f"{row.batch_size} x {row.input_tokens} in, {row.output_tokens} out"


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:.{digits}f} ± {spread.width / 2:.{digits}f}"


def _latency(row: Row) -> tuple[str, ...]:
    return (
        _case(row),
        _spread(row.ttft_ms, 1),
        _spread(row.tpot_ms, 2),
        f"{row.itl_p99_ms:.2f}",
        _spread(row.response_s, 3),
        f"{row.decode_tokens_per_s:.1f}",
    )


def _forward(row: Row) -> tuple[str, ...]:
    return (
        _case(row),
        _spread(row.forward_first_ms, 2),
        _spread(row.forward_next_ms, 3),
        _spread(row.pre_next_ms, 4),
        _spread(row.post_next_ms, 4),
    )


def _text(row: Row) -> tuple[str, ...]:
    return (
        _case(row),
        _spread(row.tokenize_ms, 3),
        _spread(row.sample_ms_per_token, 4),
        _spread(row.detokenize_ms_per_token, 4),
        f"{row.peak_host_memory_bytes / 1e6:.0f}",
    )


def _roofline(row: Row, result: BenchResult) -> tuple[str, ...]:
    reached = row.prefill.operations_per_s
    return (
        _case(row),
        f"{row.bytes_per_token / 1e6:.1f}",
        f"{row.bandwidth_bytes_per_s / 1e9:.1f}",
        f"{row.decode.bandwidth_percent:.0f}",
        f"{reached / 1e9:.1f}",
        f"{100 * reached / result.peak_operations_per_s:.0f}",
    )
