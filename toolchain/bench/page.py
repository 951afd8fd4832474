"""One HTML page of plots and tables that opens without a network, in Chinese and English."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

from toolchain.bench.plots import Curve, Label, Plot, chinese_font
from toolchain.table import Table

__all__ = ["Section", "html_page"]

NO_FONT = Label(
    "生成报告的机器没有中文字体，PNG 图只有英文标注；本页的图是 SVG，由浏览器的字体显示。",
    "The machine that made this has no font with Chinese characters, so the PNG files are labelled "
    "in English; the plots on this page are SVG, in the browser's own fonts.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What the page says of one result."""

    name: str
    facts: Sequence[str]
    tables: Sequence[Table]


def html_page(
    curves: Sequence[Curve[Any]],
    plots: Sequence[Plot],
    sections: Sequence[Section],
    titles: Mapping[str, str],
    notes: Label,
) -> str:
    """The page: pictures, tables and what was measured on what, all in one file.

    Args:
        curves: all that may be shown.
        plots: those that are.
        sections: one for each result.
        titles: of the tables, English -> Chinese.
        notes: how to read the figures.
    """
    template = Template((files("toolchain.bench") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        plots="\n".join(_figures(curves, plots)),
        results="\n".join(part for section in sections for part in _section(section, titles)),
        font="" if chinese_font() else _paragraph(NO_FONT),
        notes_zh=html.escape(notes.zh),
        notes_en=html.escape(notes.en),
    )


def _figures(curves: Sequence[Curve[Any]], plots: Sequence[Plot]) -> Iterator[str]:
    pictures = {plot.name: plot.svg for plot in plots}
    for curve in curves:
        body = pictures.get(curve.name) or _paragraph(curve.otherwise)
        yield f"<figure>{body}<figcaption>{_both(curve.title)}</figcaption></figure>"


def _section(section: Section, titles: Mapping[str, str]) -> Iterator[str]:
    yield f"<h2>{html.escape(section.name)}</h2>"
    yield f"<ul>{''.join(f'<li>{html.escape(fact)}</li>' for fact in section.facts)}</ul>"
    for table in section.tables:
        yield from _table(table, titles)


def _table(table: Table, titles: Mapping[str, str]) -> Iterator[str]:
    """Scrolls by itself where the screen is narrower."""
    yield f"<h3>{_both(Label(titles[table.title], table.title))}</h3>"
    yield '<div class="wide"><table>'
    yield _cells("th", table.columns)
    yield from (_cells("td", row) for row in table.rows)
    yield "</table></div>"


def _cells(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _both(label: Label) -> str:
    zh, en = html.escape(label.zh), html.escape(label.en)
    return f'<span lang="zh">{zh}</span> <span lang="en">{en}</span>'


def _paragraph(label: Label) -> str:
    return f"<p>{_both(label)}</p>"
