"""Two evaluations of the same questions, choice by choice."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from pydantic import ValidationError

from runtime.errors import EvalError
from runtime.json_file import read_file
from runtime.record import first_problem
from toolchain.evals.log import Answered
from toolchain.evals.results import CACHE, RESULT, ChoiceComparison, EvalResult

__all__ = ["check_comparable", "compare"]


def check_comparable(benchmark: str, data_sha256: str, other: Path) -> None:
    """Refuses a directory to compare with, before any question is asked.

    Args:
        benchmark: of this evaluation.
        data_sha256: of its questions.
        other: where an earlier one left its result.

    Raises:
        EvalError: there is none, or it is not of the same questions.
    """
    theirs = _read_result(other)
    for what, own, found in (
        ("benchmark", benchmark, theirs.benchmark),
        ("data_sha256", data_sha256, theirs.data_sha256),
    ):
        if found != own:
            raise EvalError(
                f"{other} has another {what}",
                got=found,
                allowed=own,
                next_step="compare results on the same data",
            )
    _read_choices(other / CACHE)


def compare(result: EvalResult, answers: Sequence[Answered], other: Path) -> ChoiceComparison:
    """Compares with what an earlier evaluation left.

    Raises:
        EvalError: it has none of the questions.
    """
    choices = _read_choices(other / CACHE)
    pairs = [(a, choices[a.subject, a.id]) for a in answers if (a.subject, a.id) in choices]
    if not pairs:
        raise EvalError(f"{other} has none of these questions", next_step="choose other subjects")
    theirs = _read_result(other)
    return ChoiceComparison(
        other=other.resolve().name,
        differences=tuple(
            f"{key} ({getattr(result, key)}; {getattr(theirs, key)})"
            for key in ("style", "shots", "shortened")
            if getattr(result, key) != getattr(theirs, key)
        ),
        questions=len(pairs),
        equal_choices=sum(answer.prediction == choice for answer, choice in pairs),
        correct=sum(answer.correct for answer, _ in pairs),
        other_correct=sum(answer.truth == choice for answer, choice in pairs),
    )


def _read_choices(file: Path) -> dict[tuple[str, int], str]:
    """Subject and question -> the letter that was chosen."""
    try:
        text = read_file(file, EvalError).decode()
        rows = csv.reader(StringIO(text, newline=""))
        return {(row[0], int(row[1])): row[3] for row in rows}
    except (ValueError, IndexError, csv.Error) as error:
        raise EvalError(
            f"{file} cannot be read",
            got=error,
            allowed="rows of subject, question, right answer and prediction",
            next_step="evaluate again",
        ) from error


def _read_result(directory: Path) -> EvalResult:
    file = directory / RESULT
    if not file.is_file():
        raise EvalError(
            f"no result in {directory}",
            got=f"no file {RESULT}",
            next_step="give the -o of an evaluation that has ended",
        )
    try:
        return EvalResult.model_validate_json(read_file(file, EvalError))
    except ValidationError as error:
        raise EvalError(f"{file}: {first_problem(error)}", next_step="evaluate again") from error
