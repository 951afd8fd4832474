"""What a multiple-choice benchmark is: its subjects, its files and the groups it is scored by.

Finds CSV files; knows nothing of prompts, models or scores.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.errors import EvalError
from toolchain.evals.questions_file import LETTERS, Question, read_questions

__all__ = ["LETTERS", "Benchmark", "Exam", "Question"]

Split = Literal["dev", "val"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """The questions of one subject, and the solved examples that may stand before each."""

    subject: str
    title: str  # what the subject is called in a prompt
    examples: tuple[Question, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark: DIR/{dev,val}/{subject}_{dev,val}.csv.

    name: what it is called on the command line.
    has_header: whether a file starts with the names of its columns.
    subjects: category -> subject -> what the subject is called.
    hard: the subjects of Avg(Hard).
    """

    name: str
    has_header: bool
    subjects: Mapping[str, Mapping[str, str]]
    hard: tuple[str, ...]

    @property
    def titles(self) -> dict[str, str]:
        """Every subject and what it is called."""
        return {key: title for group in self.subjects.values() for key, title in group.items()}

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """What is reported, in order, and the subjects whose questions count for it."""
        groups = {category: tuple(group) for category, group in self.subjects.items()}
        return groups | {"Avg": tuple(self.titles), "Avg(Hard)": self.hard}

    def read(
        self, data: Path, subjects: Sequence[str], shots: int, limit: int | None
    ) -> Iterator[Exam]:
        """Reads these subjects (all, where none is named), in the benchmark's order.

        Args:
            data: directory with dev/ and val/.
            subjects: which to take.
            shots: solved examples wanted before a question.
            limit: questions to take of each subject; None for all.

        Raises:
            EvalError: an unknown subject, or a file that is missing or not of this shape.
        """
        for subject in subjects:
            if subject not in self.titles:
                raise EvalError(
                    f"{self.name} has no such subject", got=subject, allowed=", ".join(self.titles)
                )
        for subject, title in self.titles.items():
            if not subjects or subject in subjects:
                examples = self._rows(data, "dev", subject)[:shots] if shots else ()
                if len(examples) < shots:
                    raise EvalError(
                        f"{subject} has too few examples",
                        got=f"--shots {shots}",
                        allowed=f"0 to {len(examples)}",
                    )
                questions = self._rows(data, "val", subject)[:limit]
                yield Exam(subject=subject, title=title, examples=examples, questions=questions)

    def digest(self, data: Path) -> str:
        """One sha256 for all files of the benchmark that are there, by name and content."""
        lines = []
        for subject in self.titles:
            for split in ("dev", "val"):
                file = _file(data, split, subject)
                if file.is_file():
                    digest = hashlib.sha256(file.read_bytes()).hexdigest()
                    lines.append(f"{digest}  {split}/{file.name}\n")
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _rows(self, data: Path, split: Split, subject: str) -> tuple[Question, ...]:
        file = _file(data, split, subject)
        if not file.is_file():
            raise EvalError(
                f"no {split} questions for {subject}",
                got=f"no file {file}",
                next_step="give the directory that has dev/ and val/, or choose --subjects",
            )
        return read_questions(file, self.has_header)


def _file(data: Path, split: str, subject: str) -> Path:
    return data / split / f"{subject}_{split}.csv"
