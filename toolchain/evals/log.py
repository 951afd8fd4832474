"""The append-only log of answers, from which an interrupted run goes on.

JSON lines: first what the answers depend on, then one answer a line. Its name carries a hash of
the first line, so other settings, another bundle or other data have a log of their own.
"""

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Self

from pydantic import JsonValue, NonNegativeInt, ValidationError

from runtime.errors import EvalError
from runtime.record import Record, first_problem
from runtime.result_files import refused, require_directory

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
        EvalError: the log holds something else, or another run is writing it.
        UserError: it cannot be written.
    """

    def __init__(self, directory: Path, key: Mapping[str, JsonValue]) -> None:
        self._head = (json.dumps(key, ensure_ascii=False, sort_keys=True) + "\n").encode()
        self.path = directory / f"log-{hashlib.sha256(self._head).hexdigest()[:12]}.jsonl"
        self.answered: dict[tuple[str, int], Answered] = {}
        self._stream: FileIO

    def __enter__(self) -> Self:
        self._stream = self._open()
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError as error:
            self._stream.close()
            raise EvalError(
                f"another run is writing {self.path}", next_step="wait for it", code="busy"
            ) from error
        except BaseException:
            self._stream.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _open(self) -> FileIO:
        """The file itself: what a link points to is not ours, and a pipe would wait for ever."""
        require_directory(self.path.parent)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            stream = FileIO(os.open(self.path, flags, 0o666), "a+")
        except OSError as error:
            if self.path.is_symlink():
                raise self._broken("it", "a link") from error
            raise refused(self.path, error) from error
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            stream.close()
            raise self._broken("it", "no regular file of one name")
        return stream

    def add(self, answer: Answered) -> None:
        """Writes a line through to the system before the next question is asked.

        Raises:
            UserError: the disk is full; what was answered before is kept.
        """
        self._write((answer.model_dump_json() + "\n").encode())
        self.answered[answer.subject, answer.id] = answer

    def _write(self, data: bytes) -> None:
        try:
            while data:  # a disk that fills up takes a part
                data = data[self._stream.write(data) or 0 :]
        except OSError as error:
            raise refused(self.path, error) from error

    def _read(self) -> None:
        """Takes the whole lines; what a killed run left of another is cut off."""
        self._stream.seek(0)
        data = self._stream.readall()
        whole = data[: data.rfind(b"\n") + 1]
        head, *lines = whole.splitlines(keepends=True) or [self._head]
        if head != self._head or not (whole or self._head.startswith(data)):
            raise self._broken("line 1", "other settings than its name says")
        os.ftruncate(self._stream.fileno(), len(whole))
        if not whole:
            self._write(self._head)
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
