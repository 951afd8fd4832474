"""Claims about `compare`: what goes with what, and the ratios."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.reader import load_bundle
from runtime.errors import UserError
from toolchain.bench.csv_file import write_csv
from toolchain.bench.grid import Case
from toolchain.bench.result import BenchResult
from toolchain.bench.run import bench
from toolchain.compare.comparison import compare
from toolchain.compare.read import read_side
from toolchain.compare.tables import comparison_json, comparison_tables

# The manual's tables, cell by cell in four digits, and its ratios in all that it prints.
MANUAL_ACCURACY = (
    ("STEM", "0.3837", "0.3837", "1.000"),
    ("Social Science", "0.4800", "0.4800", "1.000"),
    ("Humanities", "0.4514", "0.4514", "1.000"),
    ("Other", "0.4036", "0.4036", "1.000"),
    ("Avg acc", "0.4220", "0.4220", "1.000"),
)
FIRST_RATIO, NEXT_RATIO = 0.7418737467713726, 0.7893495066639305
ANSWERS = {  # right and all: what the manual's shares are of
    "STEM": (165, 430),
    "Social Science": (132, 275),
    "Humanities": (116, 257),
    "Other": (155, 384),
    "Avg": (568, 1346),
}


def llama_row(prompt: int, new: int, depth: int, rate: float) -> dict[str, Any]:
    """As `llama-bench -o json` writes it, with some of the fields that are not read."""
    return {
        "build_commit": "abc",
        "cpu_info": "AMD EPYC",
        "backends": "CPU",
        "model_type": "llama 7B Q4_0",
        "model_size": 3825065984,
        "model_n_params": 6738415616,
        "n_threads": 2,
        "n_prompt": prompt,
        "n_gen": new,
        "n_depth": depth,
        "avg_ns": 1,
        "avg_ts": rate,
        "stddev_ts": 0.5,
        "samples_ts": [rate],
    }


def evaluation(benchmark: str = "ceval", **more: object) -> dict[str, Any]:
    scores = {key: {"correct": right, "total": total} for key, (right, total) in ANSWERS.items()}
    return {
        "format": "alpaca2-eval",
        "version": 1,
        "benchmark": benchmark,
        "shots": 5,
        "categories": scores,
        **more,
    }


def saved(path: Path, document: object) -> str:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


@pytest.fixture(scope="module")
def result(bundles: Path) -> BenchResult:
    cases = [Case(batch_size=1, input_tokens=8, output_tokens=4)]
    bundle = load_bundle(bundles / "small-fp32")
    return bench(bundle, cases, model="small", mode="detail", repeats=2)


def test_the_manuals_tables_come_out_of_its_own_rows() -> None:
    comparison = compare(read_side("manual:910b3"), read_side("manual:a100"))
    accuracy, times = comparison_tables(comparison)
    assert accuracy.rows == MANUAL_ACCURACY
    a100, chip, ratio = times.rows
    assert a100[0::3] == ("A100", "44.10")
    assert (chip[0], *chip[3:]) == ("910B3（313T）", "59.44", "14.26")
    assert ratio[3:] == ("0.7419", "0.7893")
    [pair] = json.loads(comparison_json(comparison))["performance"]
    assert pair["first_token_ratio"] == FIRST_RATIO
    # The manual's own last digit is of an A100 time with more than the eight decimals it prints.
    assert pair["per_token_ratio"] == pytest.approx(NEXT_RATIO, rel=2e-16, abs=0)


def test_the_manuals_unit_is_mended_and_said_so() -> None:
    comparison = compare(read_side("manual:910b3"), read_side("manual:a100"))
    [note] = comparison.notes
    assert "token/s; its figures are milliseconds" in note
    times = list(comparison_tables(comparison))[1]
    assert times.columns[-2:] == ("首token first token (ms)", "增量 each further token (ms)")


def test_an_evaluation_is_compared_with_the_manual(tmp_path: Path) -> None:
    ours = read_side(saved(tmp_path / "ours.json", evaluation()))
    comparison = compare(ours, read_side("manual:910b3"))
    [table] = comparison_tables(comparison)
    assert [row[-1] for row in table.rows] == ["1.000"] * 5


def test_the_original_file_of_accuracies_is_read(tmp_path: Path) -> None:
    shares = {key: right / total for key, (right, total) in ANSWERS.items()}
    theirs = read_side(saved(tmp_path / "classes.json", {**shares, "Avg(Hard)": 0.1}))
    ours = read_side(saved(tmp_path / "ours.json", evaluation()))
    assert [line.ratio for line in compare(ours, theirs).accuracy] == [1.0] * 5


def test_no_right_answer_at_all_has_no_ratio(tmp_path: Path) -> None:
    theirs = read_side(saved(tmp_path / "a.json", dict.fromkeys(ANSWERS, 0.0)))
    ours = read_side(saved(tmp_path / "b.json", evaluation()))
    [table] = comparison_tables(compare(ours, theirs))
    assert {row[-1] for row in table.rows} == {"-"}


def test_different_benchmarks_are_refused(tmp_path: Path) -> None:
    ours = read_side(saved(tmp_path / "ours.json", evaluation("mmlu")))
    with pytest.raises(UserError, match="mmlu and ceval"):
        compare(ours, read_side("manual:a100"))


def test_our_json_and_our_csv_are_the_same_case(result: BenchResult, tmp_path: Path) -> None:
    ours = read_side(saved(tmp_path / "ours.json", result.model_dump_json()))
    [file] = write_csv([result], tmp_path)
    [pair] = compare(ours, read_side(str(file))).performance
    assert (pair.first_token_ratio, pair.per_token_ratio) == (1.0, 1.0)
    assert (pair.theirs.input_tokens, pair.theirs.output_tokens) == (8, 4)


def test_a_csv_of_the_original_is_read(tmp_path: Path, result: BenchResult) -> None:
    rows = (
        "batch_size,input_seq_len(Encoding),output_seq_len(Decoding),ResponseTime(s),"
        "forward_first_token_time(ms),forward_next_token_time(ms),pre_next_token_time(ms),"
        "post_next_token_time_post(ms)\n1,8,4,0.15,44.1,11.25,0,0\n1,16,4,0.15,50.1,11.3,0,0\n"
    )
    theirs = read_side(saved(tmp_path / "performance_test_7b_npu_bs1.csv", rows))
    ours = read_side(saved(tmp_path / "ours.json", result.model_dump_json()))
    [pair] = compare(ours, theirs).performance
    first = result.rows[0].forward_first_ms.median
    assert pair.first_token_ratio == pytest.approx(44.1 / first)


def test_llama_bench_and_ours_stand_in_one_table(result: BenchResult, tmp_path: Path) -> None:
    rows = [llama_row(8, 0, 0, 100.0), llama_row(0, 32, 8, 25.0), llama_row(512, 0, 0, 90.0)]
    theirs = read_side(saved(tmp_path / "llama.json", rows))
    ours = read_side(saved(tmp_path / "ours.json", result.model_dump_json()))
    comparison = compare(ours, theirs)
    table = list(comparison_tables(comparison))[-1]
    assert table.columns[:-1] == ("model", "size", "params", "backend", "threads", "test", "t/s")
    llama = ("llama 7B Q4_0", "3.56 GiB", "6.74 B", "CPU", "2", "pp8", "100.00 ± 0.50", "")
    assert table.rows[0] == llama
    assert [row[5] for row in table.rows] == ["pp8", "tg32 @ d8", "pp512", "pp8", "tg3 @ d8"]
    prompt, answer = comparison.speeds[-2:]
    assert prompt.ratio == pytest.approx(prompt.test.tokens_per_s / 100)
    assert answer.ratio == pytest.approx(answer.test.tokens_per_s / 25)
    # The prompt and the tokens after it are a case too, whose times the manual's table shows.
    [pair] = comparison.performance
    assert (pair.theirs.first_token_ms, pair.theirs.per_token_ms) == (80.0, 40.0)


def test_llama_bench_without_a_common_test_says_why_there_is_no_ratio(
    result: BenchResult, tmp_path: Path
) -> None:
    theirs = read_side(saved(tmp_path / "llama.json", [llama_row(512, 0, 0, 90.0)]))
    ours = read_side(saved(tmp_path / "ours.json", result.model_dump_json()))
    assert "llama-bench takes as -p and -d" in compare(ours, theirs).notes[0]


def test_nothing_in_common_is_an_error_that_says_what_each_has(tmp_path: Path) -> None:
    accuracy = read_side(saved(tmp_path / "a.json", evaluation()))
    times = read_side(saved(tmp_path / "l.json", [llama_row(512, 0, 0, 90.0)]))
    with pytest.raises(UserError, match=r"accuracy of a; times of llama 7B"):
        compare(accuracy, times)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("[]", "no result that is known"),
        ('{"format": "alpaca2-eval", "version": 2}', "version of alpaca2-eval; got 2"),
        ('{"format": "alpaca2-bench", "version": 9}', "version: "),
        ('[{"format": "alpaca2-bench"}]', "several bundles"),
        ("batch_size,other\n1,2\n", "columns are missing"),
        ('[{"avg_ts": "fast"}]', "model_type"),
    ],
)
def test_a_file_that_is_no_result_is_refused_by_name(
    text: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=reason):
        read_side(saved(tmp_path / "file", text))


def test_the_command_prints_tables_markdown_or_json() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "from toolchain.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, "compare", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    pair = ("manual:910b3", "manual:a100")
    assert "0.7419" in run(*pair).stdout
    assert "| STEM | 0.3837 | 0.3837 | 1.000 |" in run(*pair, "--markdown").stdout
    document = json.loads(run(*pair, "--json").stdout)
    assert document["format"] == "alpaca2-compare"
    assert document["performance"][0]["first_token_ratio"] == FIRST_RATIO
    wrong = run("manual:310p3", "manual:a100")
    assert wrong.returncode == 1
    assert "allowed: manual:910b3, manual:a100" in wrong.stderr


def test_json_has_the_same_ratios_as_the_tables(result: BenchResult, tmp_path: Path) -> None:
    ours = read_side(saved(tmp_path / "ours.json", result.model_dump_json()))
    document = json.loads(comparison_json(compare(ours, ours)))
    assert document["performance"][0]["per_token_ratio"] == 1.0
