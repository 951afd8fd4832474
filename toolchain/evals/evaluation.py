"""What is asked and how, and the answers of one subject, each asked once.

Knows who is examined and the log; not where results go.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from runtime.errors import EvalError
from toolchain.evals.answers import Answer
from toolchain.evals.benchmark import Benchmark, Exam, Question
from toolchain.evals.ceval import CEVAL
from toolchain.evals.examinee import Examinee, in_order, longest_prompt
from toolchain.evals.log import Answered, Log
from toolchain.evals.mmlu import MMLU
from toolchain.evals.prompts import Prompt, Prompts
from toolchain.evals.styles import NO_CHOICE, STYLES, Style

__all__ = ["BENCHMARKS", "Evaluation"]

BENCHMARKS = {benchmark.name: benchmark for benchmark in (CEVAL, MMLU)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is asked, and how.

    data: directory with dev/ and val/.
    style: a key of STYLES.
    shots: solved examples before a question.
    subjects: which to take; none for all.
    limit: questions to take of each subject; None for all.
    prefix_reuse: whether the rows of a subject's examples are kept.
    """

    benchmark: Benchmark
    data: Path
    style: str
    shots: int
    subjects: tuple[str, ...] = ()
    limit: int | None = None
    prefix_reuse: bool = True

    @property
    def prompt_style(self) -> Style:
        """The style that its name stands for.

        Raises:
            EvalError: there is none, or it has no words for this benchmark.
        """
        if self.style not in STYLES:
            raise EvalError("no such style", got=self.style, allowed=", ".join(STYLES))
        style = STYLES[self.style]
        if self.benchmark.name not in style.headers:
            raise EvalError(
                f"style {self.style} has no words for this benchmark",
                got=self.benchmark.name,
                allowed=", ".join(style.headers),
                next_step="choose another --style",
            )
        return style

    @property
    def choice(self) -> dict[str, JsonValue]:
        """Which questions are taken, and whether rows are kept."""
        return {
            "subjects": list(self.subjects),
            "limit": self.limit,
            "prefix_reuse": self.prefix_reuse,
        }

    def exams(self) -> list[Exam]:
        """The questions that are chosen, by subject."""
        return list(self.benchmark.read(self.data, self.subjects, self.shots, self.limit))

    def key(self, examinee: Examinee) -> dict[str, JsonValue]:
        """All that an answer depends on besides its question; which are chosen is no part."""
        return {
            "format": "alpaca2-eval-log",
            "version": 1,
            "benchmark": self.benchmark.name,
            "style": self.style,
            "prompt_style": self.prompt_style.model_dump(mode="json"),
            "shots": self.shots,
            "prefix_reuse": self.prefix_reuse,
            "data_sha256": self.benchmark.digest(self.data),
            **examinee.identity,
        }

    def prompts(self, exam: Exam, examinee: Examinee) -> Prompts:
        """The maker of a subject's prompts."""
        style = self.prompt_style
        limit = longest_prompt(examinee.context_len, style)
        return Prompts(self.benchmark.name, style, exam, examinee.tokenizer, limit)

    def answers(self, prompts: Prompts, examinee: Examinee, log: Log) -> Iterator[Answered]:
        """Yields the answers of one subject in order, asking those that the log lacks."""
        subject, style = prompts.exam.subject, self.prompt_style

        def ask(question: Question) -> Answered:
            prompt = prompts.make(question)
            answer = examinee.ask(style, prompt) if prompt.fits else NOT_ASKED
            return _answered(subject, question, prompt, answer)

        unknown = [q for q in prompts.exam.questions if (subject, q.id) not in log.answered]
        for answered in in_order(ask, unknown, examinee.concurrency):
            log.add(answered)
        for question in prompts.exam.questions:
            yield log.answered[subject, question.id]


NOT_ASKED = Answer(prediction=NO_CHOICE, text="")


def _answered(subject: str, question: Question, prompt: Prompt, answer: Answer) -> Answered:
    return Answered(
        subject=subject,
        id=question.id,
        truth=question.answer,
        prediction=answer.prediction,
        shots=prompt.shots,
        prompt_tokens=len(prompt.token_ids),
        fits=prompt.fits,
        text=answer.text,
        scores=answer.scores,
    )
