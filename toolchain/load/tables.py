"""Figures of a load as tables of text, for a terminal, for Markdown and for the report."""

from collections.abc import Iterator, Sequence

from runtime.console import show, show_json
from toolchain.console import print_table
from toolchain.load.result import LoadResult, LoadRow, Percentiles
from toolchain.table import Table, markdown_table

__all__ = ["facts", "load_tables", "markdown", "print_result", "remarks", "result_json"]

PERCENTILES = ("p50", "p90", "p99")
RATES = ("load", "in, out", "answered", "failed", "s", "requests/s", "good/s", "tok/s out", "all")
LATENCY = (
    "load",
    "in, out",
    *(f"TTFT {p}" for p in PERCENTILES),
    *(f"TPOT {p}" for p in PERCENTILES),
    *(f"ITL {p}" for p in PERCENTILES),
    *(f"E2EL {p}" for p in PERCENTILES),
)
TOO_LATE_MS = 10.0  # a client that sends so late is not quick enough for its load


def load_tables(result: LoadResult) -> Iterator[Table]:
    """Every figure of a result."""
    yield Table(title="rates", columns=RATES, rows=tuple(map(_rates, result.rows)))
    yield Table(title="times, ms", columns=LATENCY, rows=tuple(map(_latency, result.rows)))


def facts(result: LoadResult) -> Iterator[str]:
    """What was asked, by whom."""
    yield f"{result.model} at {result.url}, /v1/{_path(result)}, prompts as {result.prompts}"
    client = result.client
    yield f"asked by {result.tool} on {client.cpu}, {client.num_cores} cores, {client.system}"
    good = ", ".join(f"{name} <= {limit:g} ms" for name, limit in result.limits.items())
    yield f"{result.date}, seed {result.seed}" + (f", good: {good}" if good else "")


def remarks(result: LoadResult) -> Iterator[str]:
    """What a reader of the tables must know."""
    for row in result.rows:
        name = f"{_name(row)}, {_lengths(row)}"
        for kind, number in row.failures.items():
            yield f"{name}: {number} x {kind}: {row.failure_examples[kind]}"
        if row.short_answers:
            yield f"{name}: {row.short_answers} answers have fewer tokens than asked for"
        if row.request_rate is not None and row.late_max_ms > TOO_LATE_MS:
            yield f"{name}: this client sent up to {row.late_max_ms:.0f} ms too late"


def markdown(result: LoadResult) -> str:
    """All that there is to say."""
    lines = [f"## {result.model}", "", *(f"- {fact}" for fact in facts(result)), ""]
    for table in load_tables(result):
        lines += [f"**{table.title}**", "", *markdown_table(table), ""]
    return "\n".join([*lines, *(f"- {remark}" for remark in remarks(result))])


def print_result(result: LoadResult, *, as_json: bool, as_markdown: bool) -> None:
    """Prints one JSON document, Markdown, or tables."""
    if as_json:
        show_json(result_json(result))
    elif as_markdown:
        show(markdown(result))
    else:
        for fact in facts(result):
            show(fact)
        for table in load_tables(result):
            print_table(table.title, table.columns, table.rows)
        for remark in remarks(result):
            show(remark)


def result_json(result: LoadResult) -> str:
    """One document."""
    return result.model_dump_json(indent=2)


def _path(result: LoadResult) -> str:
    return {"completions": "completions", "chat": "chat/completions"}[result.api]


def _name(row: LoadRow) -> str:
    if row.request_rate is not None:
        return f"{row.request_rate:g} requests/s"
    return "1 client" if row.clients == 1 else f"{row.clients} clients"


def _lengths(row: LoadRow) -> str:
    """Tokens in and out, as the server counted them on average."""
    if not row.completed:
        return f"{row.input_tokens}, {row.output_tokens}"
    counted = (row.total_prompt_tokens, row.total_completion_tokens)
    return ", ".join(f"{count / row.completed:.0f}" for count in counted)


def _rates(row: LoadRow) -> tuple[str, ...]:
    good = row.goodput_requests_per_s
    return (
        _name(row),
        _lengths(row),
        str(row.completed),
        str(sum(row.failures.values())),
        f"{row.duration_s:.1f}",
        f"{row.requests_per_s:.3f}",
        "-" if good is None else f"{good:.3f}",
        f"{row.output_tokens_per_s:.1f}",
        f"{row.total_tokens_per_s:.1f}",
    )


def _latency(row: LoadRow) -> tuple[str, ...]:
    figures = ((row.ttft_ms, 0), (row.tpot_ms, 1), (row.itl_ms, 1), (row.e2el_ms, 0))
    cells = [cell for figure, digits in figures for cell in _cells(figure, digits)]
    return (_name(row), _lengths(row), *cells)


def _cells(figure: Percentiles | None, digits: int) -> Sequence[str]:
    if figure is None:
        return ("-",) * len(PERCENTILES)
    return [f"{getattr(figure, name):.{digits}f}" for name in PERCENTILES]
