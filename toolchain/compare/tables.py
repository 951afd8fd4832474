"""A comparison as the manual's tables, in four digits, and as JSON with all."""

from collections.abc import Iterator

from runtime.documents import document
from toolchain.bench.llama_bench import COLUMNS
from toolchain.compare.comparison import Comparison, Performance
from toolchain.compare.side import CATEGORIES, CaseTimes
from toolchain.table import Table, four_digits

__all__ = ["comparison_json", "comparison_tables"]

RATIO = "对比 ratio"
TIMES = (
    "芯片型号 device",
    "batch_size",
    "in, out (tokens)",
    "首token first token (ms)",
    "增量 each further token (ms)",
)


def comparison_tables(comparison: Comparison) -> Iterator[Table]:
    """Only those that have rows."""
    ours, theirs = comparison.names
    accuracy = tuple(
        (
            CATEGORIES[line.category],
            four_digits(line.ours),
            four_digits(line.theirs),
            _ratio(line.ratio),
        )
        for line in comparison.accuracy
    )
    times = tuple(row for pair in comparison.performance for row in _times(pair, ours, theirs))
    speeds = tuple(
        (*speed.test.cells, "" if speed.ratio is None else four_digits(speed.ratio))
        for speed in comparison.speeds
    )
    for title, columns, rows in (
        ("精度 accuracy", ("精度 accuracy", ours, theirs, RATIO), accuracy),
        ("性能 performance", TIMES, times),
        ("llama-bench", (*COLUMNS, RATIO), speeds),
    ):
        if rows:
            yield Table(title=title, columns=columns, rows=rows)


def comparison_json(comparison: Comparison) -> str:
    """One document; ratios above 1 say that ours is better."""
    accuracy = [
        {"category": line.category, "ours": line.ours, "theirs": line.theirs, "ratio": line.ratio}
        for line in comparison.accuracy
    ]
    performance = [
        {
            "ours": pair.ours.model_dump(),
            "theirs": pair.theirs.model_dump(),
            "first_token_ratio": pair.first_token_ratio,
            "per_token_ratio": pair.per_token_ratio,
        }
        for pair in comparison.performance
    ]
    speeds = [
        {**speed.test.model_dump(), "test": speed.test.test, "ratio": speed.ratio}
        for speed in comparison.speeds
    ]
    content = {
        "ours": comparison.ours.name,
        "theirs": comparison.theirs.name,
        "differences": comparison.differences,
        "accuracy": accuracy,
        "performance": performance,
        "tests": speeds,
        "notes": comparison.notes,
    }
    return document("compare", content)


def _times(pair: Performance, ours: str, theirs: str) -> Iterator[tuple[str, ...]]:
    """Theirs, ours and the ratio, as the manual has them."""
    for name, times in ((theirs, pair.theirs), (ours, pair.ours)):
        batch, lengths = str(times.batch_size), _lengths(times)
        figures = (times.first_token_ms, times.per_token_ms)
        yield name, batch, lengths, *map(four_digits, figures)
    ratios = (pair.first_token_ratio, pair.per_token_ratio)
    yield RATIO, str(pair.ours.batch_size), "", *map(four_digits, ratios)


def _lengths(times: CaseTimes) -> str:
    stated = (times.input_tokens, times.output_tokens)
    return ", ".join("?" if length is None else str(length) for length in stated)


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else four_digits(ratio)
