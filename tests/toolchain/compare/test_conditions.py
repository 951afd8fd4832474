"""Claims about `compare`: it says what was not the same, and refuses what has no ratio."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.reader import load_bundle
from runtime.errors import UserError
from tests.toolchain.compare.test_compare import ANSWERS, evaluation, llama_row, saved
from toolchain.bench.csv_file import COLUMNS
from toolchain.bench.grid import Case
from toolchain.bench.result import BenchResult
from toolchain.bench.run import bench
from toolchain.compare.comparison import Comparison, compare
from toolchain.compare.read import read_side
from toolchain.compare.tables import comparison_json, comparison_tables
from toolchain.table import four_digits

FULL: dict[str, Any] = {
    "style": "sdk",
    "shortened": 0,
    "data_sha256": "a" * 64,
    "settings": {"subjects": [], "limit": None, "prefix_reuse": True},
    "subjects": {"law": {"correct": 1, "total": 2}, "logic": {"correct": 1, "total": 2}},
}


@pytest.fixture(scope="module")
def result(bundles: Path) -> dict[str, Any]:
    """A result of bench as its JSON has it."""
    cases = [Case(batch_size=1, input_tokens=8, output_tokens=4)]
    bundle = load_bundle(bundles / "small-fp32")
    measured: BenchResult = bench(bundle, cases, model="small", mode="detail", repeats=2)
    document: dict[str, Any] = json.loads(measured.model_dump_json())
    return document


def beside(tmp_path: Path, ours: object, theirs: object) -> Comparison:
    return compare(
        read_side(saved(tmp_path / "ours.json", ours)),
        read_side(saved(tmp_path / "theirs.json", theirs)),
    )


def test_equal_conditions_need_no_word(tmp_path: Path) -> None:
    assert beside(tmp_path, evaluation(**FULL), evaluation(**FULL)).differences == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"style": "alpaca2"}, "style (sdk; alpaca2)"),
        ({"shots": 0}, "examples (5; 0)"),
        ({"shortened": 7}, "with fewer examples (0; 7)"),
        ({"settings": {"limit": 5}}, "questions of each subject (all; 5)"),
        ({"subjects": {"law": FULL["subjects"]["law"]}}, "subjects (law, logic; law)"),
        ({"data_sha256": "b" * 64}, "data (aaaaaaaaaaaa; bbbbbbbbbbbb)"),
        (
            {
                "categories": {
                    "Avg": {"correct": 1, "total": 416},
                    "STEM": {"correct": 1, "total": 9},
                }
            },
            "questions (1346; 416)",
        ),
    ],
)
def test_what_was_not_the_same_is_said_above_the_table(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    comparison = beside(tmp_path, evaluation(**FULL), evaluation(**FULL | change))
    [line] = comparison.differences
    assert line == f"not the same: {said}"
    assert json.loads(comparison_json(comparison))["differences"] == [line]


def test_what_only_one_side_states_is_said(tmp_path: Path) -> None:
    comparison = compare(
        read_side(saved(tmp_path / "ours.json", evaluation(**FULL))), read_side("manual:a100")
    )
    [line] = comparison.differences  # the style and the number of questions are the manual's
    assert line.startswith("not stated by A100: examples, with fewer examples, ")
    shares = {key: right / total for key, (right, total) in ANSWERS.items()}
    comparison = beside(tmp_path, evaluation(**FULL), shares)
    assert "not stated by theirs: style, examples" in comparison.differences[0]


def test_two_modes_of_bench_are_said(result: dict[str, Any], tmp_path: Path) -> None:
    comparison = beside(tmp_path, result, result | {"mode": "normal", "num_repeats": 9})
    assert comparison.differences == ("not the same: mode (detail; normal), repeats (2; 9)",)


def test_two_results_of_one_name_are_told_apart(result: dict[str, Any], tmp_path: Path) -> None:
    [table, *_] = comparison_tables(beside(tmp_path, result, result))
    names = [row[0] for row in table.rows]
    assert names[0].endswith(" (theirs)")
    assert names[1].endswith(" (ours)")


Change = Callable[[dict[str, Any], float], None]


def change_median(document: dict[str, Any], value: float) -> None:
    document["rows"][0]["forward_next_ms"]["median"] = value


def change_sample(document: dict[str, Any], value: float) -> None:
    document["rows"][0]["forward_first_ms"]["samples"][1] = value


NO_TIMES = [0.0, -0.0, -1.5, 1e-300, 1e300, float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize(
    ("change", "value"),
    [
        *((change_median, value) for value in NO_TIMES),
        *((change_sample, value) for value in NO_TIMES if value != 1e300),  # only a slow run
    ],
)
def test_a_time_of_ours_that_is_none_is_refused_with_the_file(
    change: Change, value: float, result: dict[str, Any], tmp_path: Path
) -> None:
    document = json.loads(json.dumps(result))
    change(document, value)
    with pytest.raises(UserError, match=r"ours\.json"):
        read_side(saved(tmp_path / "ours.json", document))


@pytest.mark.parametrize("value", [*map(str, NO_TIMES), "", "fast", "9" * 5000])
@pytest.mark.parametrize("column", [4, 5])
def test_a_time_of_a_csv_that_is_none_is_refused_with_the_file(
    column: int, value: str, tmp_path: Path
) -> None:
    cells = ["1", "8", "4", "0.1", "5", "6", "0", "0"]
    cells[column] = value
    file = tmp_path / "theirs.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, cells])
    with pytest.raises(UserError, match=r"theirs\.csv"):
        read_side(str(file))


@pytest.mark.parametrize("value", ["0", "-1", "1e3", "9" * 30, "9" * 5000])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_count_of_a_csv_that_is_none_is_refused_with_the_file(
    column: int, value: str, tmp_path: Path
) -> None:
    cells = ["1", "8", "4", "0.1", "5", "6", "0", "0"]
    cells[column] = value
    text = f"{','.join(COLUMNS)}\r\n{','.join(cells)}\r\n"
    with pytest.raises(UserError, match=r"theirs\.csv"):
        read_side(saved(tmp_path / "theirs.csv", text))


@pytest.mark.parametrize("value", NO_TIMES)
def test_a_rate_of_llama_bench_that_is_none_is_refused_with_the_file(
    value: float, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"llama\.json"):
        read_side(saved(tmp_path / "llama.json", [llama_row(8, 0, 0, value)]))


@pytest.mark.parametrize(
    "change",
    [
        {"n_prompt": -1},
        {"n_prompt": 10**40},
        {"n_prompt": 0},  # neither a prompt nor an answer
        {"n_depth": -5},
        {"stddev_ts": -1.0},
        {"stddev_ts": float("nan")},
        {"model_size": -1},
        {"model_n_params": 10**400},
    ],
)
def test_other_numbers_of_llama_bench_have_bounds(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"llama\.json"):
        read_side(saved(tmp_path / "llama.json", [llama_row(8, 0, 0, 90.0) | change]))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), "0.4", True, None])
def test_an_accuracy_that_is_no_share_is_refused_with_the_file(
    value: object, tmp_path: Path
) -> None:
    shares = dict.fromkeys(ANSWERS, 0.5) | {"STEM": value}
    with pytest.raises(UserError, match=r"classes\.json"):
        read_side(saved(tmp_path / "classes.json", shares))


@pytest.mark.parametrize("score", [{"correct": 3, "total": 2}, {"correct": 0, "total": 0}])
def test_more_right_answers_than_questions_are_refused(
    score: dict[str, int], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"eval\.json: categories\.STEM"):
        read_side(saved(tmp_path / "eval.json", evaluation(categories={"STEM": score})))


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"batch_size\xc4\xe3", b"[" * 100_000, b"\0"])
def test_a_file_that_is_no_text_is_refused_by_name(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match=r"/file "):
        read_side(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (59.44401735, "59.44"),
        (0.38372093, "0.3837"),
        (1.0, "1.000"),
        (9.99996, "10.00"),
        (123456.0, "123500"),
        (0.000012345678, "0.00001235"),
        (0.0, "0.000"),
    ],
)
def test_tables_have_four_digits(value: float, text: str) -> None:
    assert four_digits(value) == text
