"""Axes whose ticks are numbers that people write."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

__all__ = ["few_ticks", "ticks"]

PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # 0.5, 100: no powers of ten


def ticks(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis with a tick where something was measured."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(values))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(PLAIN)


def few_ticks(axis: Axis) -> None:
    """1, 2, 5, 10, ... on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(PLAIN)
