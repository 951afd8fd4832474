"""A report: one HTML page that opens without a network, and its data and pictures beside it."""

import html
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from runtime.result_files import write_file
from toolchain.bench.csv_file import write_csv
from toolchain.bench.curves import CURVES, Label
from toolchain.bench.plots import Plot, chinese_font, draw
from toolchain.bench.result import BenchResult
from toolchain.bench.tables import facts, markdown, result_tables, results_json
from toolchain.table import Table

__all__ = ["RESULT", "page", "write_data", "write_report"]

RESULT = "result.json"

TABLE_TITLES = {
    "latency": "延迟",
    "forward passes, detail mode": "前向计算（精确打点法）",
    "forward passes, normal mode": "前向计算（常规估计法）",
    "text and memory": "文本处理与内存",
    "roofline": "屋顶线",
    "as llama-bench has it": "按 llama-bench 的列",
}
NO_FONT = Label(
    "生成报告的机器没有中文字体，PNG 图只有英文标注；本页的图是 SVG，由浏览器的字体显示。",
    "The machine that made this has no font with Chinese characters, so the PNG files are labelled "
    "in English; the plots on this page are SVG, in the browser's own fonts.",
)


def page(results: Sequence[BenchResult], plots: Sequence[Plot]) -> str:
    """The page: pictures, tables and what was measured on what, all in one file."""
    template = Template((files("toolchain.bench") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        plots="\n".join(_figures(results, plots)),
        results="\n".join(part for result in results for part in _result(result)),
        font="" if chinese_font() else _paragraph(NO_FONT),
    )


def write_data(results: Sequence[BenchResult], directory: Path) -> list[Path]:
    """Writes what needs no pictures: JSON, Markdown and CSV.

    Returns:
        The files written.

    Raises:
        UserError: they cannot be written.
    """
    texts = {RESULT: results_json(results) + "\n", "result.md": markdown(results)}
    for name, text in texts.items():
        write_file(directory / name, text)
    return [*(directory / name for name in texts), *write_csv(results, directory)]


def write_report(results: Sequence[BenchResult], directory: Path) -> list[Path]:
    """Writes report.html, which needs no other file, and the same as data and pictures.

    Returns:
        The files written.

    Raises:
        UserError: they cannot be written.
    """
    plots = draw(results)
    files: dict[str, str | bytes] = {"report.html": page(results, plots)}
    for plot in plots:
        files |= {f"{plot.name}.svg": plot.svg, f"{plot.name}.png": plot.png}
    for name, data in files.items():
        write_file(directory / name, data)
    return [*(directory / name for name in files), *write_data(results, directory)]


def _figures(results: Sequence[BenchResult], plots: Sequence[Plot]) -> Iterator[str]:
    pictures = {plot.name: plot.svg for plot in plots}
    for curve in CURVES:
        body = pictures.get(curve.name) or _paragraph(curve.otherwise)
        yield f"<figure>{body}<figcaption>{_both(curve.title)}</figcaption></figure>"


def _result(result: BenchResult) -> Iterator[str]:
    yield f"<h2>{html.escape(result.name)}</h2>"
    yield f"<ul>{''.join(f'<li>{html.escape(fact)}</li>' for fact in facts(result))}</ul>"
    for table in result_tables(result):
        yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    """Scrolls by itself where the screen is narrower."""
    yield f"<h3>{_both(Label(TABLE_TITLES[table.title], table.title))}</h3>"
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
