"""A report of a load: one HTML page that opens without a network, and its data and pictures."""

from pathlib import Path

from runtime.result_files import write_file
from toolchain.bench.page import Section, html_page
from toolchain.bench.plots import Label, draw
from toolchain.load.curves import CURVES
from toolchain.load.result import LoadResult
from toolchain.load.tables import facts, load_tables, markdown, remarks, result_json

__all__ = ["write_report"]

TABLE_TITLES = {"rates": "速率", "times, ms": "时间（毫秒）"}
NOTES = Label(
    "定义与 vllm bench serve 相同：TTFT 从发出请求到第一个有内容的事件；"
    "TPOT 是其后每个 token 的平均时间；ITL 是相邻事件的间隔，合并计算；"
    "E2EL 到最后一个 token。分位数在样本之间线性插值。",
    "Definitions are those of vllm bench serve: TTFT from sending to the first event with a "
    "choice; TPOT the mean time of each token after it; ITL the gaps between events, pooled; "
    "E2EL to the last token. Percentiles are linear between samples. docs/benchmarks.md defines "
    "every figure.",
)


def write_report(result: LoadResult, directory: Path) -> list[Path]:
    """Writes report.html, which needs no other file, and the same as data and pictures.

    Returns:
        The files written.

    Raises:
        UserError: they cannot be written.
    """
    plots = draw(CURVES, [result])
    section = Section(
        name=result.model,
        facts=[*facts(result), *remarks(result)],
        tables=list(load_tables(result)),
    )
    contents: dict[str, str | bytes] = {
        "report.html": html_page(CURVES, plots, [section], TABLE_TITLES, NOTES),
        "result.json": result_json(result) + "\n",
        "result.md": markdown(result) + "\n",
    }
    for plot in plots:
        contents |= {f"{plot.name}.svg": plot.svg, f"{plot.name}.png": plot.png}
    for name, data in contents.items():
        write_file(directory / name, data)
    return [directory / name for name in contents]
