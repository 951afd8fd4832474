"""Claims about an evaluation: every answer counts as documented, and none is asked twice.

The model is an oracle whose answers the tests write down.
"""

import csv
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import EvalError, UserError
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.tokenizer import Tokenizer
from tests.paths import DATA
from tests.toolchain.evals.oracle import (
    OracleSession,
    answers_in_turn,
    evaluate,
    read_exams,
    right_answers,
)
from toolchain.evals.compare_choices import check_comparable, compare
from toolchain.evals.log import Answered, Log

FILES = ("device0.log", "cache0.csv", "result_0_subject_acc.json", "result_0_classes_acc.json")
TRUTH = right_answers(read_exams())


@pytest.fixture(scope="module")
def tokenizer(tokenizer_model: Path) -> Tokenizer:
    return SentencePieceTokenizer(tokenizer_model)


def lines_of(directory: Path) -> list[dict[str, Any]]:
    [log] = directory.glob("log-*.jsonl")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[1:]]


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.parametrize("style", ["sdk", "alpaca2"])
@pytest.mark.parametrize("errors", [0, 7, 28])
def test_an_oracle_with_planted_errors_is_scored_exactly(
    style: str, errors: int, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    wrong = set(random.Random(errors).sample(sorted(TRUTH), errors))
    replies = {q: "ABCD"["ABCD".index(a) - 1] if q in wrong else a for q, a in TRUTH.items()}
    result, effort = evaluate(OracleSession(tokenizer, replies), tmp_path, style=style)
    average = result.categories["Avg"]
    assert (average.correct, average.total) == (len(TRUTH) - errors, len(TRUTH))
    assert effort.asked == len(TRUTH)
    for exam in read_exams():
        right = sum(question.text not in wrong for question in exam.questions)
        assert result.subjects[exam.subject].correct == right


@pytest.mark.parametrize(
    ("reply", "prediction"),
    [
        ("{}", "{}"),
        ("{lower}", "{}"),
        ("答案：{}。", "{}"),
        ("The answer is {}", "T"),
        ("Ａ", "-1"),
        ("", "-1"),
        ("1 2 3 4 5 6 7 8 9 " * 4 + "{}", "-1"),  # later than 32 tokens
    ],
)
def test_the_sdk_style_reads_answers_as_the_sdk_did(
    reply: str, prediction: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    replies = {q: reply.format(a, lower=a.lower()) for q, a in TRUTH.items()}
    result, _ = evaluate(OracleSession(tokenizer, replies), tmp_path)
    lines = lines_of(tmp_path)
    assert [line["prediction"] for line in lines] == [prediction.format(a) for a in TRUTH.values()]
    assert result.categories["Avg"].correct == (len(TRUTH) if prediction == "{}" else 0)
    assert result.without_choice == (len(TRUTH) if prediction == "-1" else 0)


@pytest.mark.parametrize("limit", [160, 500])  # some do not fit alone; some lose examples
def test_what_does_not_fit_counts_as_wrong_and_is_named(
    limit: int, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    session = OracleSession(tokenizer, TRUTH, cache_len=limit)
    result, effort = evaluate(session, tmp_path, style="alpaca2")
    lines = lines_of(tmp_path)
    too_long = [f"{line['subject']}/{line['id']}" for line in lines if not line["fits"]]
    asked = [line for line in lines if line["fits"]]
    assert result.too_long == too_long
    assert {len(line["text"]) for line in lines if not line["fits"]} <= {0}
    assert result.shortened == sum(line["shots"] < 5 for line in asked) > 0
    assert all((line["prompt_tokens"] <= limit) == line["fits"] for line in lines)
    assert result.categories["Avg"].model_dump() == {"correct": len(asked), "total": len(TRUTH)}
    assert effort.asked == len(lines) == len(TRUTH)
    assert bool(too_long) == (limit == 160)


def test_the_files_are_those_of_the_sdk_and_tell_the_same(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Counted again from the log alone, with nothing of ours."""
    evaluate(OracleSession(tokenizer, answers_in_turn(read_exams())), tmp_path)
    lines = lines_of(tmp_path)
    with (tmp_path / "cache0.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    expected = [[x["subject"], str(x["id"]), x["truth"], x["prediction"]] for x in lines]
    assert rows == expected
    by_subject: dict[str, list[bool]] = {}
    for subject, _, truth, prediction in rows:
        by_subject.setdefault(subject, []).append(truth == prediction)
    accuracies = {key: sum(rights) / len(rights) for key, rights in by_subject.items()}
    assert json.loads((tmp_path / FILES[2]).read_bytes()) == accuracies
    classes = json.loads((tmp_path / FILES[3]).read_bytes())
    rights = [right for group in by_subject.values() for right in group]
    assert classes["Avg"] == sum(rights) / len(rights)
    assert classes["Avg(Hard)"] == accuracies["college_physics"]
    stem = by_subject["computer_network"] + by_subject["college_physics"]
    assert classes["STEM"] == sum(stem) / len(stem)
    log = (tmp_path / "device0.log").read_text(encoding="utf-8")
    assert log.count("========== prompt start ==========") == len(rows)
    assert log.count("[Correct]") == sum(rights)
    assert log.count("[Wrong]") == len(rights) - sum(rights)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["sdk", "alpaca2"])
def test_killed_at_random_moments_it_goes_on_to_the_same_bytes(
    style: str, tokenizer_model: Path, tmp_path: Path
) -> None:
    rng = random.Random(style)
    session = OracleSession(SentencePieceTokenizer(tokenizer_model), answers_in_turn(read_exams()))
    evaluate(session, tmp_path / "whole", style=style, shots=1)
    for number in range(10):  # in each of the two styles
        output = tmp_path / f"killed-{number}"
        module = [
            sys.executable,
            "-m",
            "tests.toolchain.evals.oracle",
            str(tokenizer_model),
            str(output),
        ]
        settings = json.dumps({"style": style, "shots": 1})
        with subprocess.Popen([*module, settings], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(rng.randrange(1, len(TRUTH))):  # it tells of each question
                process.stdout.readline()
            process.kill()
        assert process.returncode == -9
        assert not (output / "result.json").exists()
        evaluate(session, output, style=style, shots=1)
        assert contents(output) == contents(tmp_path / "whole")


def test_a_log_cut_at_any_byte_is_completed(tokenizer: Tokenizer, tmp_path: Path) -> None:
    session = OracleSession(tokenizer, answers_in_turn(read_exams()))
    evaluate(session, tmp_path / "a", style="alpaca2", shots=0)
    whole = contents(tmp_path / "a")
    [log] = (tmp_path / "a").glob("log-*")
    asked = []
    for size in random.Random(0).sample(range(len(whole[log.name])), 20):
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / log.name).write_bytes(whole[log.name][:size])
        _, effort = evaluate(session, tmp_path / "b", style="alpaca2", shots=0)
        assert contents(tmp_path / "b") == whole
        assert effort.asked + effort.resumed == len(TRUTH)
        asked.append(effort.asked)
    assert min(asked) < 5
    assert max(asked) > 20


def test_a_changed_setting_asks_again_and_a_changed_choice_of_questions_does_not(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """The SDK re-reported old results after any change."""
    session = OracleSession(tokenizer, TRUTH)
    data = tmp_path / "data"
    shutil.copytree(DATA / "ceval", data)

    def asked(**settings: Any) -> int:
        _, effort = evaluate(session, tmp_path / "out", data=data, **settings)
        return effort.asked

    assert asked(limit=2) == 12
    assert asked(subjects=("law",)) == 3
    assert asked() == len(TRUTH) - 15
    assert asked() == 0
    assert asked(shots=4) == len(TRUTH)
    assert asked(style="alpaca2") == len(TRUTH)
    assert asked(prefix_reuse=False) == len(TRUTH)
    file = data / "dev/law_dev.csv"
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert asked() == len(TRUTH)
    shutil.rmtree(data)
    shutil.copytree(DATA / "ceval", data)
    assert asked() == 0  # the first log is still there


def test_two_runs_do_not_write_one_log(tmp_path: Path) -> None:
    with Log(tmp_path, {"a": 1}), pytest.raises(UserError, match="another run is writing"):
        Log(tmp_path, {"a": 1}).__enter__()
    with Log(tmp_path, {"a": 1}) as log:
        log.path.write_text('{"a": 1}\n{"what": 1}\n')
    with pytest.raises(EvalError, match="line 2: not a log of this evaluation"):
        Log(tmp_path, {"a": 1}).__enter__()


def test_the_examples_of_a_subject_are_computed_once(tokenizer: Tokenizer, tmp_path: Path) -> None:
    session = OracleSession(tokenizer, TRUTH)
    reused, with_reuse = evaluate(session, tmp_path / "a", style="alpaca2")
    fresh, without = evaluate(session, tmp_path / "b", style="alpaca2", prefix_reuse=False)
    assert with_reuse.reused_tokens is not None
    assert with_reuse.computed_tokens is not None
    assert without.computed_tokens is not None
    assert with_reuse.reused_tokens + with_reuse.computed_tokens == without.computed_tokens
    assert (without.reused_tokens, without.reused_prompts) == (0, 0)
    # Four to six questions a subject, of which the first computes what is shared.
    assert with_reuse.reused_prompts == len(TRUTH) - 6
    assert without.computed_tokens > 2.5 * with_reuse.computed_tokens
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")
    assert reused.subjects == fresh.subjects


def test_a_comparison_counts_equal_choices(tokenizer: Tokenizer, tmp_path: Path) -> None:
    wrong = TRUTH | {q: "ABCD"["ABCD".index(TRUTH[q]) - 1] for q in list(TRUTH)[:3]}
    evaluate(OracleSession(tokenizer, wrong), tmp_path / "a", shots=0)
    result, _ = evaluate(OracleSession(tokenizer, TRUTH), tmp_path / "b", shots=0)
    answers = [Answered.model_validate_json(json.dumps(line)) for line in lines_of(tmp_path / "b")]
    found = compare(result, answers, tmp_path / "a")
    assert (found.questions, found.equal_choices) == (len(TRUTH), len(TRUTH) - 3)
    assert found.accuracy_delta == 3 / len(TRUTH)
    assert found.differences == ()
    other, _ = evaluate(OracleSession(tokenizer, TRUTH), tmp_path / "c", shots=1, style="alpaca2")
    found = compare(other, answers, tmp_path / "a")
    assert found.differences == ("style (alpaca2; sdk)", "shots (1; 0)")
    check_comparable("ceval", result.data_sha256, tmp_path / "a")
    with pytest.raises(EvalError, match="no result in"):
        check_comparable("ceval", result.data_sha256, tmp_path)
    with pytest.raises(EvalError, match="another data_sha256"):
        check_comparable("ceval", "0", tmp_path / "a")
    with pytest.raises(EvalError, match="no such style; got vicuna; allowed: sdk, alpaca2"):
        evaluate(OracleSession(tokenizer, TRUTH), tmp_path, style="vicuna")


@pytest.mark.parametrize("text", ["law", "law,x,A,B", "law,0,A", "\0,\0", '"', "law,0,A,B\n,"])
def test_choices_that_cannot_be_read_are_refused_before_any_question(
    text: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    result, _ = evaluate(OracleSession(tokenizer, TRUTH), tmp_path, shots=0)
    (tmp_path / "cache0.csv").write_text(text)
    with pytest.raises(EvalError, match=r"cache0\.csv cannot be read"):
        check_comparable("ceval", result.data_sha256, tmp_path)
