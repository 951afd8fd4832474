"""The append-only log of answers, from which an interrupted run goes on.

JSON lines: first what the answers depend on, then one answer a line. Its name carries a hash of
the first line, so other settings, another bundle or other data have a log of their own.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from pydantic import JsonValue, NonNegativeInt, ValidationError

from runtime.errors import EvalError
from runtime.line_file import LineFile
from runtime.record import Record, first_problem
from runtime.result_files import require_directory

__all__ = ["Answered", "Log"]


class Answered(Record):
    """One line of the log.

    id: number of the question within its subject, from 0.
    prediction: a letter, or -1 where there was none.
    shots: examples that fitted before the question.
    fits: whether it was asked at all; a question that does not fit counts as wrong.
    """

    subject: str
    id: NonNegativeInt
    truth: str
    prediction: str
    shots: NonNegativeInt
    prompt_tokens: NonNegativeInt
    fits: bool
    text: str
    scores: tuple[float, ...] = ()

    @property
    def correct(self) -> bool:
        """Whether it counts as right."""
        return self.prediction == self.truth


class Log:
    """Answers so far, by subject and id; use as a context manager.

    Args:
        directory: where the log lies; made if need be.
        key: all that an answer depends on besides its question.

    Raises:
        EvalError: the log holds something else.
        UserError: another run is writing it, or it cannot be written.
    """

    def __init__(self, directory: Path, key: Mapping[str, JsonValue]) -> None:
        self._head = (json.dumps(key, ensure_ascii=False, sort_keys=True) + "\n").encode()
        self.path = directory / f"log-{hashlib.sha256(self._head).hexdigest()[:12]}.jsonl"
        self.answered: dict[tuple[str, int], Answered] = {}
        self._file = LineFile(self.path, lambda got: self._broken("it", got))
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        require_directory(self.path.parent)
        with ExitStack() as stack:
            stack.enter_context(self._file)
            self._read()
            self._entered = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.close()

    def add(self, answer: Answered) -> None:
        """Writes a line through to the system before the next question is asked.

        Raises:
            UserError: the disk is full; what was answered before is kept.
        """
        self._file.append((answer.model_dump_json() + "\n").encode())
        self.answered[answer.subject, answer.id] = answer

    def _read(self) -> None:
        """Takes the whole lines; what a killed run left of another is cut off."""
        head, *lines = list(self._file.lines()) or [b""]
        if head != self._head and (head or not self._head.startswith(self._file.rest)):
            raise self._broken("line 1", "other settings than its name says")
        self._file.cut()
        if not head:
            self._file.append(self._head)
        for number, line in enumerate(lines, 2):
            try:
                answer = Answered.model_validate_json(line)
            except ValidationError as error:
                raise self._broken(f"line {number}", first_problem(error)) from error
            self.answered[answer.subject, answer.id] = answer

    def _broken(self, where: str, got: str) -> EvalError:
        return EvalError(
            f"{self.path}, {where}: not a log of this evaluation",
            got=got,
            next_step="remove it to start afresh, or choose another -o",
        )
