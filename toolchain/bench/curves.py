"""What each plot shows: the figures and their labels. Knows axes, not files or fonts."""

from collections.abc import Iterator, Sequence
from statistics import median

from matplotlib.axes import Axes

from toolchain.bench.axes import few_ticks, ticks
from toolchain.bench.plots import Curve, Label, Say
from toolchain.bench.result import BenchResult, Reach, Row, Spread

__all__ = ["CURVES"]

Point = tuple[float, Spread]


def _first_token(axes: Axes, results: Sequence[BenchResult], say: Say) -> None:
    for result, batch_size, rows in _series(results):
        points = [(float(row.input_tokens), row.ttft_ms) for row in rows]
        _line(axes, points, _legend(result, batch_size, say))
    ticks(axes, [row.input_tokens for result in results for row in result.rows])
    axes.set_yscale("log")
    few_ticks(axes.yaxis)


def _decode(axes: Axes, results: Sequence[BenchResult], say: Say) -> None:
    for result, batch_size, rows in _series(results):
        points = [(row.context_tokens, row.forward_next_ms) for row in rows]
        _line(axes, points, _legend(result, batch_size, say))
    axes.set_ylim(bottom=0)


def _batch(axes: Axes, results: Sequence[BenchResult], say: Say) -> None:
    for result in results:
        for length in dict.fromkeys(row.input_tokens for row in result.rows):
            rows = [row for row in result.rows if row.input_tokens == length]
            points = [(float(row.batch_size), _tokens_per_s(row)) for row in rows]
            _line(axes, points, f"{result.name}, {length} {say(IN)}")
    ticks(axes, [row.batch_size for result in results for row in result.rows])
    axes.set_ylim(bottom=0)


def _roofline(axes: Axes, results: Sequence[BenchResult], say: Say) -> None:
    rows = [row for result in results for row in result.rows]
    steps = [reach for row in rows for reach in (row.prefill, row.decode)]
    intensities = [step.operations_per_byte for step in steps]
    span = (min(intensities) / 2, max(intensities) * 2)
    bandwidth = median(row.bandwidth_bytes_per_s for row in rows)
    peak = max(result.peak_operations_per_s for result in results)
    knee = min(max(peak / bandwidth, span[0]), span[1])
    xs = [span[0], knee, span[1]]
    axes.plot(xs, [min(x * bandwidth, peak) / 1e9 for x in xs], color="black", label=say(ROOF))
    for result in results:
        for label, marker, reaches in (
            (PREFILL, "s", [row.prefill for row in result.rows]),
            (DECODE, "o", [row.decode for row in result.rows]),
        ):
            _scatter(axes, reaches, marker, f"{result.name}, {say(label)}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    few_ticks(axes.xaxis)
    few_ticks(axes.yaxis)


def _series(results: Sequence[BenchResult]) -> Iterator[tuple[BenchResult, int, list[Row]]]:
    """The rows of one line: a bundle at one batch size."""
    for result in results:
        for batch_size in dict.fromkeys(row.batch_size for row in result.rows):
            yield result, batch_size, [row for row in result.rows if row.batch_size == batch_size]


def _legend(result: BenchResult, batch_size: int, say: Say) -> str:
    return f"{result.name}, {say(BATCH_SIZE)} {batch_size}"


def _tokens_per_s(row: Row) -> Spread:
    return Spread.of([1e3 * row.batch_size / ms for ms in row.forward_next_ms.samples])


def _line(axes: Axes, points: Sequence[Point], label: str) -> None:
    """Medians, joined, and bars from the least to the most of the repeats."""
    merged = [
        (x, Spread.of([s for at, spread in points if at == x for s in spread.samples]))
        for x in sorted({x for x, _ in points})
    ]
    medians = [spread.median for _, spread in merged]
    below = [spread.median - spread.min for _, spread in merged]
    above = [spread.max - spread.median for _, spread in merged]
    axes.errorbar(
        [x for x, _ in merged], medians, yerr=(below, above), label=label, marker="o", capsize=3
    )


def _scatter(axes: Axes, reaches: Sequence[Reach], marker: str, label: str) -> None:
    axes.scatter(
        [reach.operations_per_byte for reach in reaches],
        [reach.operations_per_s / 1e9 for reach in reaches],
        marker=marker,
        label=label,
        zorder=3,
    )


def _several_batches(results: Sequence[BenchResult]) -> bool:
    return len({row.batch_size for result in results for row in result.rows}) > 1


IN = Label("输入", "in")
BATCH_SIZE = Label("批", "batch")
ROOF = Label("上限", "roof")
PREFILL = Label("预填充", "prefill")
DECODE = Label("解码", "decode")
CURVES = (
    Curve(
        name="first_token",
        title=Label("首 token 时间与输入长度", "First token by input length"),
        x=Label("输入长度", "input length (tokens)"),
        y=Label("首 token 时间", "first token (ms)"),
        paint=_first_token,
    ),
    Curve(
        name="decode",
        title=Label("解码时间与上下文长度", "Decoding by context length"),
        x=Label("上下文长度", "context length (tokens)"),
        y=Label("每 token 时间", "per token (ms)"),
        paint=_decode,
    ),
    Curve(
        name="batch",
        title=Label("批大小与吞吐", "Throughput by batch size"),
        x=Label("批大小", "batch size (sequences)"),
        y=Label("解码吞吐", "decode (tokens/s)"),
        paint=_batch,
        shown=_several_batches,
        otherwise=Label(
            "只测了一种批大小；用 --batch-size 1 --batch-size 4 测多种。",
            "Only one batch size was measured; --batch-size 1 --batch-size 4 measures more.",
        ),
    ),
    Curve(
        name="roofline",
        title=Label("屋顶线", "Roofline"),
        x=Label("运算强度", "intensity (operations/byte)"),
        y=Label("达到的速度", "reached (Gop/s)"),
        paint=_roofline,
    ),
)
