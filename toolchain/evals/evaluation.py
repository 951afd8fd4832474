"""What is asked and how, and the answers of one subject, each asked once.

Knows the scheduler and the log; not where results go.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from runtime.bundle.reader import Bundle
from runtime.engine.scheduler import Scheduler
from runtime.errors import EvalError
from runtime.text.tokenizer import Tokenizer
from toolchain.evals.answers import Answer, ask, longest_prompt
from toolchain.evals.benchmark import Benchmark, Exam, Question
from toolchain.evals.ceval import CEVAL
from toolchain.evals.log import Answered, Log
from toolchain.evals.mmlu import MMLU
from toolchain.evals.prompts import Prompts
from toolchain.evals.styles import NO_CHOICE, STYLES, Style

__all__ = ["BENCHMARKS", "Evaluation", "describe_bundle"]

BENCHMARKS = {benchmark.name: benchmark for benchmark in (CEVAL, MMLU)}


def describe_bundle(bundle: Bundle) -> dict[str, str]:
    """What tells one model from another: its hash, and words for people."""
    return {
        "name": bundle.path.resolve().name,
        "manifest_sha256": bundle.digest,
        "target": bundle.manifest.target,
        "weights": bundle.manifest.weights,
    }


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

    def key(self, bundle: dict[str, str]) -> dict[str, JsonValue]:
        """All that an answer depends on besides its question; which are chosen is no part."""
        return {
            "format": "alpaca2-eval-log",
            "version": 1,
            "benchmark": self.benchmark.name,
            "style": self.style,
            "prompt_style": self.prompt_style.model_dump(mode="json"),
            "shots": self.shots,
            "prefix_reuse": self.prefix_reuse,
            "manifest_sha256": bundle["manifest_sha256"],
            "data_sha256": self.benchmark.digest(self.data),
        }

    def prompts(self, exam: Exam, scheduler: Scheduler, tokenizer: Tokenizer) -> Prompts:
        """The maker of a subject's prompts."""
        style = self.prompt_style
        limit = longest_prompt(scheduler, style)
        return Prompts(self.benchmark.name, style, exam, tokenizer, limit)

    def answers(self, prompts: Prompts, scheduler: Scheduler, log: Log) -> Iterator[Answered]:
        """Yields the answers of one subject in order, asking those that the log lacks."""
        subject = prompts.exam.subject
        for question in prompts.exam.questions:
            if (subject, question.id) not in log.answered:
                log.add(self._ask(prompts, question, scheduler))
            yield log.answered[subject, question.id]

    def _ask(self, prompts: Prompts, question: Question, scheduler: Scheduler) -> Answered:
        prompt = prompts.make(question)
        answer = Answer(prediction=NO_CHOICE, text="")
        if prompt.fits:
            answer = ask(scheduler, prompts.tokenizer, self.prompt_style, prompt)
        return Answered(
            subject=prompts.exam.subject,
            id=question.id,
            truth=question.answer,
            prediction=answer.prediction,
            shots=prompt.shots,
            prompt_tokens=len(prompt.token_ids),
            fits=prompt.fits,
            text=answer.text,
            scores=answer.scores,
        )
