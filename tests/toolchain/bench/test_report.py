"""Claims about the report of `bench`: one page that needs nothing else."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from runtime.bundle.reader import load_bundle
from toolchain.bench.grid import Case
from toolchain.bench.plots import chinese_font
from toolchain.bench.report import write_report
from toolchain.bench.result import BenchResult
from toolchain.bench.run import bench


@pytest.fixture(scope="module")
def result(bundles: Path) -> BenchResult:
    """Three batch sizes and two prompts."""
    cases = [
        Case(batch_size=batch_size, input_tokens=num_in, output_tokens=4)
        for batch_size in (1, 2, 3)
        for num_in in (5, 12)
    ]
    bundle = load_bundle(bundles / "small-fp32")
    return bench(bundle, cases, model="small-fp32", mode="detail", repeats=2)


class References(HTMLParser):
    """Everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "data") and not str(value).startswith("#")
        ]


def test_a_report_needs_no_other_file_and_speaks_both_languages(
    result: BenchResult, tmp_path: Path
) -> None:
    written = {path.name for path in write_report([result], tmp_path)}
    plots = {f"{name}.{kind}" for name in ("first_token", "decode", "batch", "roofline")
             for kind in ("svg", "png")}  # fmt: skip
    tables = {f"performance_test_small-fp32_cpu_bs{batch}.csv" for batch in (1, 2, 3)}
    assert written == plots | tables | {"report.html", "result.json", "result.md"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    references = References()
    references.feed(page)
    assert references.found == []
    assert not re.search(r"@import|url\((?!#)", page)
    assert page.count("<svg") == 4
    for text in (
        "首 token 时间 first token (ms)",
        "批大小 batch size",
        "屋顶线",
        'name="viewport"',
    ):
        assert text in page
    assert ("no font with Chinese" in page) == (chinese_font() is None)
    assert (tmp_path / "decode.png").read_bytes().startswith(b"\x89PNG")
    assert BenchResult.model_validate_json((tmp_path / "result.json").read_bytes()) == result


def test_one_batch_size_makes_no_plot_of_batch_sizes(bundles: Path, tmp_path: Path) -> None:
    bundle = load_bundle(bundles / "small-fp32")
    case = Case(batch_size=1, input_tokens=4, output_tokens=4)
    result = bench(bundle, [case], model="small", mode="normal", repeats=1)
    names = {path.name for path in write_report([result], tmp_path)}
    assert "batch.svg" not in names
    assert "Only one batch size was measured" in (tmp_path / "report.html").read_text()


def test_a_name_is_text_wherever_it_is_shown(result: BenchResult, tmp_path: Path) -> None:
    """Neither HTML nor the formulas of matplotlib."""
    named = result.model_copy(update={"model": "<b>$x_1$ & co</b>"})
    write_report([named], tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;$x_1$ &amp; co&lt;/b&gt;" in page
