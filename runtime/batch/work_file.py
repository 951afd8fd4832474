"""What is answered so far, in a file beside the output; the output appears when all is.

First a line that says what the answers depend on. Then for each answer a line: the number of the
request's line, a space, and the line of the output, which has the same lines without the numbers.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from runtime.errors import UserError
from runtime.line_file import LineFile
from runtime.result_files import refused, require_file
from runtime.timing import now

__all__ = ["WorkFile"]

FORMAT: dict[str, str | int] = {"format": "alpaca2-batch-work", "version": 1}
SYNC_EVERY = 1.0  # seconds of work that a power failure may cost; a killed process loses nothing
LINE = re.compile(rb"([1-9][0-9]*) (\{.*\}\n)")


class WorkFile:
    """Answers so far; use as a context manager.

    Args:
        output: the file that appears in the end.
        key: what the answers depend on, under the names that a person knows.

    Attributes:
        done: numbers of the lines that are answered.

    Raises:
        UserError: the output is there already; the file is that of another batch, or in use, or
            cannot be written.
    """

    def __init__(self, output: Path, key: Mapping[str, str]) -> None:
        self.output, self.path = output, output.with_name(f"{output.name}.partial")
        self._key = {**FORMAT, **key}
        self.done: set[int] = set()
        self._synced_at = now()
        self._file = LineFile(self.path, self._foreign)
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        require_file(self.output)
        if os.path.lexists(self.output) and not self.path.exists():
            raise UserError(
                f"{self.output} is there already",
                next_step="it is complete if a batch made it; remove it, or choose another -o",
            )
        with ExitStack() as stack:
            stack.enter_context(self._file)
            self._read()
            self._entered = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.done:  # nothing to go on from
            self.path.unlink(missing_ok=True)
        self._entered.close()

    def add(self, number: int, line: bytes) -> None:
        """Writes the answer of a line through to the system.

        Raises:
            UserError: the disk is full; what was answered before is kept.
        """
        self._file.append(b"%d %b" % (number, line))
        self.done.add(number)
        if now() - self._synced_at > SYNC_EVERY:
            self._file.sync()
            self._synced_at = now()

    def finish(self, *, keep_order: bool) -> None:
        """Puts the output in its place, complete, and removes this file.

        Args:
            keep_order: lines in the order of their requests, not in that of their answers.

        Raises:
            UserError: the disk is full; what was answered is kept.
        """
        fresh = self.path.with_name(f"{self.path.name}-output")
        fresh.unlink(missing_ok=True)  # of a run that was killed here
        try:
            with fresh.open("xb") as stream:
                stream.writelines(self._lines(keep_order=keep_order))
                stream.flush()
                os.fsync(stream.fileno())
            fresh.rename(self.output)
        except OSError as error:
            raise refused(self.output, error) from error
        finally:
            fresh.unlink(missing_ok=True)
        self.path.unlink()

    def _read(self) -> None:
        """Takes the whole lines, and cuts off what is left of another."""
        for i, line in enumerate(self._file.lines()):
            if i == 0:
                self._check_key(line)
            else:
                self.done.add(self._number(i + 1, line))
        self._file.cut()
        if self.path.stat().st_size == 0:
            self._file.append(json.dumps(self._key, ensure_ascii=False).encode() + b"\n")

    def _check_key(self, head: bytes) -> None:
        try:
            key = json.loads(head)
        except ValueError as error:
            raise self._foreign("line 1, which is no JSON") from error
        if not isinstance(key, dict) or any(key.get(name) != FORMAT[name] for name in FORMAT):
            raise self._foreign("another format")
        others = [name for name in self._key if key.get(name) != self._key[name]]
        if others:
            raise UserError(
                f"{self.path} was begun with another {' and another '.join(others)}",
                next_step="give what it was begun with, or remove it to start afresh",
            )

    def _number(self, place: int, line: bytes) -> int:
        match = LINE.fullmatch(line)
        if match is None:
            raise self._foreign(f"line {place}")
        return int(match[1])

    def _foreign(self, got: str) -> UserError:
        return UserError(
            f"{self.path} is not the work of a batch",
            got=got,
            next_step="remove it to start afresh, or choose another -o",
        )

    def _lines(self, *, keep_order: bool) -> Iterator[bytes]:
        """The lines of the output."""
        with self.path.open("rb") as stream:
            place = len(stream.readline())
            if not keep_order:
                yield from (line.split(b" ", 1)[1] for line in stream)
                return
            places = []  # number of the request, place of its line
            for line in stream:
                places.append((int(line.split(b" ", 1)[0]), place))
                place += len(line)
            for _, place in sorted(places):
                stream.seek(place)
                yield stream.readline().split(b" ", 1)[1]
