"""One evaluation from its first question to its files, going on where an earlier run ended."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue, NonNegativeFloat, NonNegativeInt

from runtime.progress import SILENT, Progress
from runtime.record import Record
from runtime.timing import now
from toolchain.evals.benchmark import Exam
from toolchain.evals.compare_choices import check_comparable, compare
from toolchain.evals.evaluation import Evaluation
from toolchain.evals.examinee import Examinee, longest_prompt
from toolchain.evals.log import Answered, Log
from toolchain.evals.results import (
    EvalResult,
    make_result,
    require_place,
    write_result,
)

__all__ = ["Effort", "check_examination", "examine"]


class Effort(Record):
    """What this run took; no part of the result.

    asked, resumed: questions put to the model, and taken from the log.
    reused_prompts, reused_tokens: those whose first rows were in the cache, and how many rows.
    computed_tokens: prompt tokens that were run. A server does not tell these three.
    """

    seconds: NonNegativeFloat
    asked: NonNegativeInt
    resumed: NonNegativeInt
    reused_prompts: NonNegativeInt | None = None
    reused_tokens: NonNegativeInt | None = None
    computed_tokens: NonNegativeInt | None = None


def examine(
    evaluation: Evaluation,
    examinee: Examinee,
    output: Path,
    compare_to: Path | None,
    progress: Progress = SILENT,
) -> tuple[EvalResult, Effort]:
    """Asks what is not yet answered and writes the result.

    Args:
        evaluation: what is asked.
        examinee: who is asked.
        output: directory of the log and the result.
        compare_to: such a directory of another run.
        progress: told when a subject is done.

    Raises:
        EvalError: the data, the log or the other result cannot be used.
        UserError: the results cannot be written.
    """
    started = now()
    exams = check_examination(evaluation, output, compare_to)
    key = evaluation.key(examinee)
    with Log(output, key) as log:
        known = len(log.answered)
        answers, texts = _ask_all(evaluation, exams, examinee, log, progress)
        asked = len(log.answered) - known
        limits: dict[str, JsonValue] = {
            "max_prompt_tokens": longest_prompt(examinee.context_len, evaluation.prompt_style),
            "max_new_tokens": evaluation.prompt_style.max_new_tokens,
        }
        result = make_result(evaluation, examinee.described, limits, log.path, answers)
        if compare_to is not None:
            found = compare(result, answers, compare_to)
            result = result.model_copy(update={"comparison": found})
        write_result(output, result, answers, texts)
    effort = Effort(
        seconds=now() - started,
        asked=asked,
        resumed=len(answers) - asked,
        **examinee.effort(),
    )
    return result, effort


def check_examination(evaluation: Evaluation, output: Path, compare_to: Path | None) -> list[Exam]:
    """Refuses what cannot come to an end, before the bundle is opened; gives the questions.

    Raises:
        EvalError: the style, the data or the other result cannot be used.
        UserError: the results cannot be written.
    """
    _ = evaluation.prompt_style
    require_place(output)
    exams = evaluation.exams()
    if compare_to is not None:
        digest = evaluation.benchmark.digest(evaluation.data)
        check_comparable(evaluation.benchmark.name, digest, compare_to)
    return exams


def _ask_all(
    evaluation: Evaluation,
    exams: Sequence[Exam],
    examinee: Examinee,
    log: Log,
    progress: Progress,
) -> tuple[list[Answered], list[str]]:
    """Every answer in order, and what each prompt said."""
    answers: list[Answered] = []
    texts: list[str] = []
    for number, exam in enumerate(exams, 1):
        prompts = evaluation.prompts(exam, examinee)
        rows = list(evaluation.answers(prompts, examinee, log))
        texts += map(prompts.text, exam.questions, (row.shots for row in rows))
        answers += rows
        right = sum(row.correct for row in rows)
        progress.step(f"{number}/{len(exams)} {exam.subject}: {right} of {len(rows)}")
    return answers, texts
