"""Claims about toolchain.evals.benchmark: reading the published files, and refusing others."""

from pathlib import Path

import pytest

from runtime.errors import EvalError
from tests.paths import DATA
from toolchain.evals.benchmark import Question
from toolchain.evals.ceval import CEVAL
from toolchain.evals.mmlu import MMLU

HEADER = "id,question,A,B,C,D,answer\n"


def write(directory: Path, text: str, split: str = "val") -> Path:
    file = directory / split / f"law_{split}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return directory


def test_a_quoted_cell_may_hold_commas_quotes_and_lines() -> None:
    [exam] = CEVAL.read(DATA / "ceval", ["law"], 5, None)
    assert exam.title == "法学"
    assert [question.id for question in exam.questions] == [0, 1, 2, 3, 4]
    assert exam.questions[1].text == '"一事不再理"说的是____。'
    assert exam.questions[2].text == "证人应当\n____。"
    assert exam.questions[4] == Question(
        id=4,
        text="小明,小红,小刚订立合同,当事人有____人。",
        choices=("1", "2", "4", "3"),
        answer="D",
    )


def test_mmlu_has_no_header_row() -> None:
    [anatomy] = MMLU.read(DATA / "mmlu", ["anatomy"], 5, 2)
    assert anatomy.title == "anatomy"
    assert [question.text for question in anatomy.questions] == [
        "Where is the tongue?",
        "What covers the body?",
    ]


def test_the_order_is_the_benchmarks_and_the_limit_is_per_subject() -> None:
    exams = list(CEVAL.read(DATA / "ceval", ["law", "college_physics"], 0, 2))
    assert [exam.subject for exam in exams] == ["college_physics", "law"]
    assert [len(exam.questions) for exam in exams] == [2, 2]
    assert [exam.examples for exam in exams] == [(), ()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "0,q,a,b,c,d,E\n", "question 0: not a question .* got answer 'E'"),
        (HEADER + "0,q,a,b,c,d\n", "question 0: too few cells"),
        ("id,question,A,B,C,D\n0,q,a,b,c,d\n", "columns are missing; got no answer"),
        ("0,q,a,b,c,d,A\n1,q,a,b,c,d,A\n", "columns are missing; got no question"),
    ],
)
def test_what_is_no_question_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(EvalError, match=message):
        list(CEVAL.read(write(tmp_path, text), ["law"], 0, None))


def test_a_missing_file_an_unknown_subject_and_too_many_shots_are_named(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match=r"no val questions for law; got no file .*law_val\.csv"):
        list(CEVAL.read(tmp_path, ["law"], 0, None))
    with pytest.raises(EvalError, match="no such subject; got alchemy; allowed: computer_network"):
        list(CEVAL.read(tmp_path, ["alchemy"], 0, None))
    with pytest.raises(EvalError, match="too few examples; got --shots 6; allowed: 0 to 5"):
        list(CEVAL.read(DATA / "ceval", ["law"], 6, None))


def test_the_digest_changes_with_any_file(tmp_path: Path) -> None:
    digests = {CEVAL.digest(tmp_path)}
    for split, text in (("val", HEADER), ("dev", HEADER), ("val", HEADER + "0,q,a,b,c,d,A\n")):
        digests.add(CEVAL.digest(write(tmp_path, text, split)))
    assert len(digests) == 4


def test_the_real_files_are_read_whole(shared_data: Path) -> None:
    exams = {exam.subject: exam for exam in CEVAL.read(shared_data / "ceval", (), 5, None)}
    sizes = {
        category: sum(len(exams[subject].questions) for subject in group)
        for category, group in CEVAL.groups.items()
    }
    assert list(sizes.values()) == [430, 275, 257, 384, 1346, 152]
