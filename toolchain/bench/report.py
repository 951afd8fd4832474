"""A report: one HTML page that opens without a network, and its data and pictures beside it."""

from collections.abc import Sequence
from pathlib import Path

from runtime.result_files import write_file
from toolchain.bench.csv_file import write_csv
from toolchain.bench.curves import CURVES
from toolchain.bench.page import Section, html_page
from toolchain.bench.plots import Label, Plot, draw
from toolchain.bench.result import BenchResult
from toolchain.bench.tables import facts, markdown, result_tables, results_json

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
NOTES = Label(
    "± 是各次重复的极差的一半；误差线从最小到最大。首 token 时间含分词与采样。"
    "前向时间不含采样与文本处理。屋顶线：权重与缓存各读一次的字节数，带宽在每个用例之前现场测量；"
    "模型小到能放进缓存时，达到的百分比会超过 100。",
    "± is half of the range of the repeats; error bars go from the least to the most. First-token "
    "time includes tokenizing and sampling; forward times include neither. Roofline: weights and "
    "cache are each read once, and the bandwidth was measured before every case; a model that fits "
    "the processor's caches reads faster than that, above 100 percent. docs/benchmarks.md defines "
    "every figure.",
)


def page(results: Sequence[BenchResult], plots: Sequence[Plot]) -> str:
    """The page: pictures, tables and what was measured on what, all in one file."""
    sections = [
        Section(name=each.name, facts=list(facts(each)), tables=list(result_tables(each)))
        for each in results
    ]
    return html_page(CURVES, plots, sections, TABLE_TITLES, NOTES)


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
    plots = draw(CURVES, results)
    files: dict[str, str | bytes] = {"report.html": page(results, plots)}
    for plot in plots:
        files |= {f"{plot.name}.svg": plot.svg, f"{plot.name}.png": plot.png}
    for name, data in files.items():
        write_file(directory / name, data)
    return [*(directory / name for name in files), *write_data(results, directory)]
