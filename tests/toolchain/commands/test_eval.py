"""toolchain eval, as a person or a script sees it, on made-up questions and on real ones."""

import csv
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from runtime.bundle.reader import load_bundle
from runtime.progress import SILENT
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.paths import DATA
from toolchain.choices import Choices
from toolchain.commands.eval import StyleName
from toolchain.compiler import compile_bundle
from toolchain.evals.ceval import CEVAL
from toolchain.evals.mmlu import MMLU
from toolchain.evals.styles import STYLES

SUBJECTS = "computer_network,college_physics,high_school_geography,law,logic,fire_engineer"
COMMAND = (sys.executable, "-c", "from toolchain.cli import main; main()", "eval")
QUESTIONS = 29  # of these subjects in the made-up set


def evaluate(benchmark: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, benchmark, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def document(benchmark: str, *arguments: object) -> dict[str, Any]:
    done = evaluate(benchmark, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def recount(output: Path, log: str) -> dict[str, dict[str, int]]:
    """Categories counted from the log, with the benchmark's table of subjects and nothing else."""
    correct, total = Counter[str](), Counter[str]()
    for line in (output / log).read_text(encoding="utf-8").splitlines()[1:]:
        answer = json.loads(line)
        groups = [c for c, group in CEVAL.subjects.items() if answer["subject"] in group]
        groups += ["Avg", *(["Avg(Hard)"] if answer["subject"] in CEVAL.hard else [])]
        total.update(groups)
        correct.update(groups * (answer["truth"] == answer["prediction"]))
    return {group: {"correct": correct[group], "total": total[group]} for group in total}


@pytest.mark.parametrize("style", ["sdk", "alpaca2"])
def test_the_report_the_files_and_the_log_say_the_same(
    style: str, bundles: Path, tmp_path: Path
) -> None:
    chosen = ("--data", DATA / "ceval", "--subjects", SUBJECTS, "--style", style, "--shots", 2)
    output = tmp_path / "out"
    result = document("ceval", bundles / "talk-fp32", *chosen, "-o", output)
    assert result["categories"] == recount(output, result["log"])
    assert result["categories"]["Avg"]["total"] == QUESTIONS
    accuracies = json.loads((output / "result_0_classes_acc.json").read_bytes())
    counts = result["categories"].items()
    assert accuracies == {name: n["correct"] / n["total"] for name, n in counts}
    written = json.loads((output / "result.json").read_bytes())
    effort = result.pop("effort")
    assert written == result
    assert (written["format"], written["version"]) == ("alpaca2-eval", 1)
    assert (effort["asked"], effort["resumed"]) == (QUESTIONS, 0)
    again = evaluate("ceval", bundles / "talk-fp32", *chosen, "-o", output)
    assert "0 asked" in again.stdout
    assert f"{QUESTIONS} taken from the log" in again.stdout
    right = result["categories"]["Avg"]["correct"]
    row = next(line for line in again.stdout.splitlines() if line.startswith(" Avg "))
    assert row.split()[1:4] == [str(right), str(QUESTIONS), f"{100 * right / QUESTIONS:.2f}"]
    assert json.loads((output / "result.json").read_bytes()) == written


def test_without_prefix_reuse_every_logit_is_the_same(bundles: Path, tmp_path: Path) -> None:
    chosen = ("--data", DATA / "ceval", "--subjects", SUBJECTS, "--style", "alpaca2")
    results, lines = [], []
    for name, options in ("with", ()), ("without", ("--no-prefix-reuse",)):
        output = tmp_path / name
        bundle = bundles / "talk-int4-kv8"
        results.append(document("ceval", bundle, *chosen, "-o", output, *options))
        log = (output / results[-1]["log"]).read_text(encoding="utf-8")
        lines.append(log.splitlines()[1:])
    assert lines[0] == lines[1]
    assert results[0]["shortened"] == QUESTIONS  # five examples do not fit into 384 tokens
    efforts = [result["effort"] for result in results]
    assert efforts[0]["computed_tokens"] < efforts[1]["computed_tokens"]
    assert efforts[1]["reused_tokens"] == 0


def test_mmlu_runs_in_the_same_frame(bundles: Path, tmp_path: Path) -> None:
    chosen = ("--data", DATA / "mmlu", "--subjects", "anatomy,formal_logic", "--shots", 1)
    for style in ("sdk", "alpaca2"):
        output = tmp_path / style
        result = document("mmlu", bundles / "talk-int4", *chosen, "--style", style, "-o", output)
        assert list(result["categories"]) == ["Humanities", "Other", "Avg"]
        assert result["categories"]["Avg"]["total"] == 6
        with (output / "cache0.csv").open(newline="") as stream:
            assert [row[0] for row in csv.reader(stream)] == ["formal_logic"] * 3 + ["anatomy"] * 3
        assert set(result["subjects"]) <= set(MMLU.titles)


def test_two_bundles_are_compared(bundles: Path, tmp_path: Path) -> None:
    chosen = ("--data", DATA / "ceval", "--subjects", SUBJECTS, "--style", "alpaca2", "--shots", 1)
    first = document("ceval", bundles / "talk-fp32", *chosen, "-o", tmp_path / "fp32")
    compared = (*chosen, "--compare-to", tmp_path / "fp32")
    second = document("ceval", bundles / "talk-int8", *compared, "-o", tmp_path / "int8")
    choices = []
    for name in ("fp32", "int8"):
        with (tmp_path / name / "cache0.csv").open(newline="") as stream:
            choices.append([row[3] for row in csv.reader(stream)])
    found = second["comparison"]
    assert found["equal_choices"] == sum(a == b for a, b in zip(*choices, strict=True))
    assert found["questions"] == QUESTIONS
    assert found["correct"] == second["categories"]["Avg"]["correct"]
    assert found["other_correct"] == first["categories"]["Avg"]["correct"]
    shown = evaluate("ceval", bundles / "talk-int8", *compared, "-o", tmp_path / "int8").stdout
    assert f"against fp32: {found['equal_choices']} of {QUESTIONS} choices equal" in shown


def test_mistakes_are_named_in_one_line(bundles: Path, tmp_path: Path) -> None:
    bundle = bundles / "talk-int4"
    chosen = ("-o", tmp_path, "--data", DATA / "ceval")
    for options, message in (
        ((), "no dev questions for operating_system; got no file"),
        (("--subjects", "magic"), "ceval has no such subject; got magic; allowed: "),
        (("--subjects", "law", "--shots", 9), "law has too few examples; got --shots 9"),
    ):
        done = evaluate("ceval", bundle, *chosen, *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"error: {message}")
    assert evaluate("hellaswag", bundle, *chosen).returncode == 2
    done = evaluate("ceval", bundle, *chosen, "--style", "x")
    assert done.returncode == 2
    assert all(style in done.stderr for style in STYLES)


def test_the_styles_of_the_command_line_are_all_styles() -> None:
    assert set(get_args(StyleName)) == set(STYLES)


def test_what_cannot_end_well_is_refused_before_the_bundle_is_read(tmp_path: Path) -> None:
    """There is no bundle at all: whatever is said first is what was looked at first."""
    gbk = tmp_path / "gbk"
    for split in ("dev", "val"):
        (gbk / split).mkdir(parents=True)
        text = (DATA / "ceval" / split / f"law_{split}.csv").read_text(encoding="utf-8")
        (gbk / split / f"law_{split}.csv").write_bytes(text.encode("gbk"))
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "result.json").mkdir(parents=True)
    good = ("--data", DATA / "ceval", "--subjects", "law")
    for options, message in (
        (("--data", gbk, "--subjects", "law", "-o", tmp_path / "out"), "reads as GB18030"),
        ((*good, "-o", tmp_path / "file"), "cannot write "),
        ((*good, "-o", tmp_path / "file" / "out"), "cannot write "),
        ((*good, "-o", tmp_path / "taken"), "result.json; got a directory"),
        ((*good, "-o", tmp_path / "out", "--compare-to", tmp_path), "no result in "),
        ((*good, "-o", tmp_path / "out"), "no bundle at nowhere"),
    ):
        done = evaluate("ceval", "nowhere", *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
    done = evaluate("mmlu", "nowhere", *good, "-o", tmp_path, "--style", "alpaca2-official")
    assert "style alpaca2-official has no words for this benchmark" in done.stderr


def test_ctrl_c_keeps_the_answers_and_the_same_command_goes_on(
    bundles: Path, tmp_path: Path
) -> None:
    chosen = ("--data", DATA / "ceval", "--subjects", SUBJECTS, "--shots", 2, "-o", tmp_path)
    arguments = (bundles / "talk-fp32", *chosen)
    with subprocess.Popen(
        [*COMMAND, "ceval", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in the background with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()  # a subject is done
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert f"stopped; answers are kept in {tmp_path}, and the same command goes on" in said
    assert not (tmp_path / "result.json").exists()
    effort = document("ceval", *arguments)["effort"]
    assert effort["resumed"] >= 4
    assert effort["asked"] + effort["resumed"] == QUESTIONS


@pytest.fixture(scope="module")
def real_bundles(mini_exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained checkpoint with the real tokenizer, as fp32 and as int8."""
    directory = tmp_path_factory.mktemp("real")
    exported = load_bundle(mini_exported)
    for weights in ("fp32", "int8"):
        compile_bundle(exported, directory / weights, Choices(weights=weights), progress=SILENT)
    return directory


def test_fp32_and_int8_choose_alike_on_real_questions(
    real_bundles: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Of all 1,346 they choose 99.2 % alike; where they differ, two letters were almost equal."""
    chosen = ("--data", shared_data / "ceval", "--style", "alpaca2", "--shots", 0, "--limit", 8)
    before = document("ceval", real_bundles / "fp32", *chosen, "-o", tmp_path / "fp32")
    against = ("--compare-to", tmp_path / "fp32")
    result = document("ceval", real_bundles / "int8", *chosen, "-o", tmp_path / "int8", *against)
    assert result["categories"]["Avg"]["total"] == 416
    assert result["categories"]["Avg(Hard)"]["total"] == 64
    assert result["categories"] == recount(tmp_path / "int8", result["log"])
    assert result["comparison"]["equal_choices"] >= 0.99 * 416
    logs = (tmp_path / "fp32" / before["log"], tmp_path / "int8" / result["log"])
    answers = [map(json.loads, log.read_text().splitlines()[1:]) for log in logs]
    for one, other in zip(*answers, strict=True):
        if one["prediction"] != other["prediction"]:
            second, first = sorted(one["scores"])[-2:]
            assert first - second < 0.1  # measured: 0.07; half of the questions have 0.5 or more


def test_real_examples_are_computed_once_with_the_same_logits(
    real_bundles: Path, shared_data: Path, tmp_path: Path
) -> None:
    subjects = "computer_network,college_physics"
    chosen = ("--data", shared_data / "ceval", "--style", "alpaca2", "--subjects", subjects)
    efforts, lines = [], []
    for name, options in ("with", ()), ("without", ("--no-prefix-reuse",)):
        output = tmp_path / name
        result = document("ceval", real_bundles / "int8", *chosen, "-o", output, *options)
        efforts.append(result["effort"])
        log = (output / result["log"]).read_text(encoding="utf-8")
        lines.append(log.splitlines()[1:])
    assert lines[0] == lines[1]
    assert efforts[1]["computed_tokens"] > 3 * efforts[0]["computed_tokens"]


def test_the_letters_are_single_pieces_of_the_real_tokenizer(shared_data: Path) -> None:
    """As ymcui/Chinese-LLaMA-Alpaca-2, scripts/ceval, assumes."""
    tokenizer = SentencePieceTokenizer(shared_data / "tokenizer/tokenizer.model")
    for letter in "ABCD":
        assert tokenizer.encode(letter) == tokenizer.encode(f"x {letter}")[-1:]
        assert tokenizer.token_bytes(tokenizer.encode(f"：{letter}")[-1]) == letter.encode()


def test_a_link_that_waits_beside_the_results_is_not_followed(
    bundles: Path, tmp_path: Path
) -> None:
    """`.device0.log.partial` was opened, and what it pointed to was overwritten."""
    precious, results = tmp_path / "precious", tmp_path / "results"
    precious.write_text("precious")
    results.mkdir()
    for name in ("device0.log", "cache0.csv", "result.json"):
        (results / f".{name}.partial").symlink_to(precious)
        (results / name).symlink_to(precious)
    where = (bundles / "talk-int4", "--data", DATA / "ceval", "-o", results)
    done = evaluate("ceval", *where, "--subjects", "law", "--limit", "1", "--shots", "0")
    assert precious.read_text() == "precious", done.stderr
    assert done.returncode == 0, done.stderr
    assert json.loads((results / "result.json").read_bytes())["benchmark"] == "ceval"
