"""What each plot of a load shows. Knows axes, not files or fonts."""

from collections.abc import Callable, Iterator, Sequence

from matplotlib.axes import Axes

from toolchain.bench.axes import ticks
from toolchain.bench.plots import Curve, Label, Say
from toolchain.load.result import LoadResult, LoadRow, Percentiles

__all__ = ["CURVES"]

Points = list[tuple[float, float]]
CLIENTS = Label("并发客户端", "clients")
RATE = Label("请求到达率", "requests/s that arrive")
TOKENS = Label("输出吞吐", "output (tokens/s)")
NO_CLIENTS = Label(
    "没有测闭环负载；用 --concurrency 1 --concurrency 4 测。",
    "No closed loop was run; --concurrency 1 --concurrency 4 runs two.",
)
NO_RATE = Label(
    "没有测开环负载；用 --request-rate 0.5 --request-rate 1 测。",
    "No open loop was run; --request-rate 0.5 --request-rate 1 runs two.",
)


def _closed(row: LoadRow) -> float | None:
    return None if row.clients is None else float(row.clients)


def _open(row: LoadRow) -> float | None:
    return row.request_rate


def _ttft(row: LoadRow) -> Percentiles | None:
    return row.ttft_ms


def _tpot(row: LoadRow) -> Percentiles | None:
    return row.tpot_ms


X = Callable[[LoadRow], float | None]
Y = Callable[[LoadRow], Percentiles | None]


def _shown(x: X) -> Callable[[Sequence[LoadResult]], bool]:
    return lambda results: any(_known(x, results))


def _known(x: X, results: Sequence[LoadResult]) -> Iterator[float]:
    for result in results:
        for row in result.rows:
            if (at := x(row)) is not None and row.completed:
                yield at


def _times(x: X, y: Y) -> Callable[[Axes, Sequence[LoadResult], Say], None]:
    """Half of the requests and 99 of 100 take at most so long."""

    def paint(axes: Axes, results: Sequence[LoadResult], say: Say) -> None:
        for label, rows in _series(results):
            for name in ("p50", "p99"):
                found = [(x(row), y(row)) for row in rows]
                points = [(a, getattr(b, name)) for a, b in found if a is not None and b]
                _line(axes, points, f"{label}, {name}")
        ticks(axes, list(_known(x, results)))
        axes.set_ylim(bottom=0)

    return paint


def _throughput(x: X) -> Callable[[Axes, Sequence[LoadResult], Say], None]:
    def paint(axes: Axes, results: Sequence[LoadResult], say: Say) -> None:
        for label, rows in _series(results):
            found = [(x(row), row.output_tokens_per_s) for row in rows if row.completed]
            _line(axes, [(a, b) for a, b in found if a is not None], label)
        ticks(axes, list(_known(x, results)))
        axes.set_ylim(bottom=0)

    return paint


def _series(results: Sequence[LoadResult]) -> Iterator[tuple[str, list[LoadRow]]]:
    """The rows of one line: a model at one pair of lengths."""
    for result in results:
        for pair in dict.fromkeys((row.input_tokens, row.output_tokens) for row in result.rows):
            rows = [row for row in result.rows if (row.input_tokens, row.output_tokens) == pair]
            yield f"{result.model}, {pair[0]},{pair[1]}", rows


def _line(axes: Axes, points: Points, label: str) -> None:
    if points:
        axes.plot(*zip(*sorted(points), strict=True), label=label, marker="o")


def _curves(suffix: str, x: X, label: Label, otherwise: Label) -> Iterator[Curve[LoadResult]]:
    for name, title, y, paint in (
        ("ttft", Label("首 token 时间", "First token"), Label("TTFT", "ms"), _times(x, _ttft)),
        ("tpot", Label("每 token 时间", "Per token"), Label("TPOT", "ms"), _times(x, _tpot)),
        ("throughput", Label("吞吐", "Throughput"), TOKENS, _throughput(x)),
    ):
        yield Curve(
            name=f"{name}_{suffix}",
            title=Label(f"{title.zh}与{label.zh}", f"{title.en} by {label.en}"),
            x=label,
            y=y,
            paint=paint,
            shown=_shown(x),
            otherwise=otherwise,
        )


CURVES = (
    *_curves("by_clients", _closed, CLIENTS, NO_CLIENTS),
    *_curves("by_rate", _open, RATE, NO_RATE),
)
