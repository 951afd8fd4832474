"""Plots of any results, as SVG whose text the reader's browser sets, and as PNG.

Labels are Chinese and English. A PNG holds drawn characters: where this machine has no font with
Chinese ones, it is labelled in English alone. The SVG is labelled in both all the same.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["CJK_FONTS", "Curve", "Label", "Plot", "Say", "chinese_font", "draw"]

CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "SimHei",
)
LATIN_FONT = "DejaVu Sans"  # matplotlib brings it
SIZE_INCHES = (5.4, 3.9)  # at 11 points: still readable on a screen 360 pixels wide
DOTS_PER_INCH = 160


@dataclass(frozen=True, slots=True)
class Label:
    """A text in both languages."""

    zh: str
    en: str


Say = Callable[[Label], str]  # a label as the picture can have it
R = TypeVar("R")  # a result


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve(Generic[R]):
    """What one plot shows.

    shown: whether the results have anything to show in it; else why not is said.
    """

    name: str
    title: Label
    x: Label
    y: Label
    paint: Callable[[Axes, Sequence[R], Say], None]
    shown: Callable[[Sequence[R]], bool] = lambda results: True
    otherwise: Label = Label("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture of one curve."""

    name: str
    title: Label
    svg: str
    png: bytes


def chinese_font() -> str | None:
    """A font on this machine that has Chinese characters."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CJK_FONTS if name in installed), None)


def draw(curves: Sequence[Curve[R]], results: Sequence[R]) -> list[Plot]:
    """Every plot that the results have something to show in."""
    font = chinese_font()
    drawn = _english if font is None else _bilingual
    plots = []
    for curve in curves:
        if not curve.shown(results):
            continue
        svg = _picture(curve, results, _bilingual, font, "svg").decode()
        png = _picture(curve, results, drawn, font, "png")
        plots.append(Plot(name=curve.name, title=curve.title, svg=_bare(svg), png=png))
    return plots


def _bilingual(label: Label) -> str:
    return f"{label.zh} {label.en}"


def _english(label: Label) -> str:
    return label.en


def _picture(curve: Curve[R], results: Sequence[R], say: Say, font: str | None, kind: str) -> bytes:
    families = [LATIN_FONT] if font is None else [LATIN_FONT, font]
    stream = io.BytesIO()
    # For SVG a missing character matters to the reader's machine only.
    with (
        mpl.rc_context(
            {
                "font.family": [*families, "sans-serif"],
                "font.size": 11,
                "svg.fonttype": "none",  # text stays text
                "svg.hashsalt": curve.name,  # several pictures share a page, and so its ids
                "text.parse_math": False,  # a dollar sign in a name is a dollar sign
            }
        ),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        curve.paint(axes, results, say)
        axes.set_xlabel(say(curve.x))
        axes.set_ylabel(say(curve.y))
        axes.grid(visible=True, alpha=0.3)
        figure.legend(loc="outside upper left", ncols=2, fontsize=9)  # not over the lines
        undated = {"Date": None} if kind == "svg" else {}
        figure.savefig(stream, format=kind, dpi=DOTS_PER_INCH, metadata=undated)
    return stream.getvalue()


def _bare(svg: str) -> str:
    """Without the XML declaration and the reference to a DTD, which a page may not have."""
    return svg[svg.index("<svg") :]
