"""The result of an evaluation as files.

In the layout of the manual's SDK, which a person may have tools for:

device0.log                every prompt, its length, the answer, and what it was held to be
cache0.csv                 no header; subject, question id, right answer, prediction
result_0_subject_acc.json  accuracy by subject
result_0_classes_acc.json  accuracy by category, Avg and Avg(Hard)

result.json is our own, and its schema is `Result`. All are written from the log when it is
complete, so an interrupted and resumed run leaves the same bytes.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Final, Literal

from pydantic import JsonValue, NonNegativeInt

from runtime.errors import UserError
from runtime.record import Record
from runtime.result_files import require_directory, write_file
from toolchain.evals.evaluation import Evaluation
from toolchain.evals.log import Answered
from toolchain.evals.scores import Tally, by_group
from toolchain.evals.styles import NO_CHOICE

__all__ = [
    "RESULT",
    "ChoiceComparison",
    "EvalResult",
    "make_result",
    "require_place",
    "write_result",
]

RESULT: Final = "result.json"
CACHE: Final = "cache0.csv"
NAMES: Final = (
    "device0.log",
    CACHE,
    "result_0_subject_acc.json",
    "result_0_classes_acc.json",
    RESULT,
)


class ChoiceComparison(Record):
    """Against another result, on the questions that both have.

    other: name of the other directory.
    differences: what was not the same in how they were asked, besides the bundle.
    equal_choices: questions with the same prediction.
    correct, other_correct: of these questions, here and there.
    """

    other: str
    differences: tuple[str, ...] = ()
    questions: NonNegativeInt
    equal_choices: NonNegativeInt
    correct: NonNegativeInt
    other_correct: NonNegativeInt

    @property
    def agreement(self) -> float:
        """Share of equal choices."""
        return self.equal_choices / self.questions

    @property
    def accuracy_delta(self) -> float:
        """Accuracy here minus accuracy there."""
        return (self.correct - self.other_correct) / self.questions


class EvalResult(Record):
    """The schema of result.json.

    bundle: name, manifest_sha256, target, weights.
    settings: subjects, limit, prefix_reuse, and the style's limits on prompt and answer.
    data_sha256: of all files of the benchmark, by name and content.
    log: the file that holds the answers.
    categories, subjects: counts; Avg and Avg(Hard) count questions, not subjects.
    shortened: questions asked with fewer examples than `shots`, since the prompt was too long.
    too_long: subject/id of the questions that do not fit even alone; they count as wrong.
    without_choice: questions that were asked and got no letter.
    """

    format: Literal["alpaca2-eval"] = "alpaca2-eval"
    version: Literal[1] = 1
    benchmark: str
    style: str
    shots: NonNegativeInt
    bundle: dict[str, str]
    settings: dict[str, JsonValue]
    data_sha256: str
    log: str
    categories: dict[str, Tally]
    subjects: dict[str, Tally]
    shortened: NonNegativeInt
    too_long: list[str]
    without_choice: NonNegativeInt
    comparison: ChoiceComparison | None = None


def by_subject(answers: Sequence[Answered]) -> dict[str, Tally]:
    """Tallies in the order of the answers."""
    rights: dict[str, list[bool]] = {}
    for answer in answers:
        rights.setdefault(answer.subject, []).append(answer.correct)
    return {key: Tally(correct=sum(rows), total=len(rows)) for key, rows in rights.items()}


def make_result(
    evaluation: Evaluation,
    bundle: dict[str, str],
    limits: dict[str, JsonValue],
    log: Path,
    answers: Sequence[Answered],
) -> EvalResult:
    """Counts the answers.

    Args:
        evaluation: what was asked.
        bundle: what tells the model from others.
        limits: on prompt and answer.
        log: file of the answers.
        answers: of all questions, in order.
    """
    asked = [answer for answer in answers if answer.fits]
    subjects = by_subject(answers)
    return EvalResult(
        benchmark=evaluation.benchmark.name,
        style=evaluation.style,
        shots=evaluation.shots,
        bundle=bundle,
        settings=limits | evaluation.choice,
        data_sha256=evaluation.benchmark.digest(evaluation.data),
        log=log.name,
        categories=by_group(evaluation.benchmark.groups, subjects),
        subjects=subjects,
        shortened=sum(answer.shots < evaluation.shots for answer in asked),
        too_long=[f"{answer.subject}/{answer.id}" for answer in answers if not answer.fits],
        without_choice=sum(answer.prediction == NO_CHOICE for answer in asked),
    )


def require_place(directory: Path) -> None:
    """Makes the directory and tries that all files can be written, before any question is asked.

    Raises:
        UserError: they cannot.
    """
    require_directory(directory)
    for name in NAMES:
        if (directory / name).is_dir():
            raise UserError(f"cannot write {directory / name}", got="a directory")


def write_result(
    directory: Path, result: EvalResult, answers: Sequence[Answered], prompts: Sequence[str]
) -> None:
    """Writes all files into the directory of the log; each appears whole.

    `prompts` are the texts of the questions that `answers` has, in the same order.
    """
    blocks = [_block(text, answer) for text, answer in zip(prompts, answers, strict=True)]
    rows = StringIO()
    csv.writer(rows).writerows((a.subject, a.id, a.truth, a.prediction) for a in answers)
    texts = (
        "".join(blocks),
        rows.getvalue(),
        _accuracies(result.subjects),
        _accuracies(result.categories),
        result.model_dump_json(indent=2) + "\n",
    )
    for name, text in zip(NAMES, texts, strict=True):
        write_file(directory / name, text)


def _accuracies(tallies: Mapping[str, Tally]) -> str:
    return json.dumps({name: tally.accuracy for name, tally in tallies.items()})


def _block(prompt: str, answer: Answered) -> str:
    verdict = "Correct" if answer.correct else "Wrong"
    note = "" if answer.fits else "[!] too long, not asked\n"
    return (
        f"========== prompt start ==========\n{prompt}\n========== prompt end ==========\n"
        f"[+] prompt length: {answer.prompt_tokens}\n[+] examples: {answer.shots}\n{note}"
        f"========== answer start ==========\n{answer.text}\n========== answer end ==========\n"
        f"[{verdict}] predict: {answer.prediction}, label: {answer.truth}\n\n"
    )
