"""The lines of a batch: read twice, never held in memory.

The first pass counts and hashes them, so that another input is refused before a model is opened;
the second answers them.
"""

import codecs
import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from runtime.errors import UserError
from runtime.result_files import refused

__all__ = ["MAX_LINE_BYTES", "BatchInput", "Line", "open_input"]

STANDARD_INPUT = Path("-")
MAX_LINE_BYTES = 1 << 24  # 16 MiB; many times the longest context


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank.

    number: from 1; blank lines count.
    data: None for a line longer than MAX_LINE_BYTES.
    """

    number: int
    data: bytes | None


class BatchInput:
    """The lines of a stream that can be read twice.

    Attributes:
        num_lines: that are not blank.
        sha256: of the whole stream.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.num_lines, self.sha256 = 0, ""
        self.num_lines = sum(1 for _ in self.lines())

    def lines(self) -> Iterator[Line]:
        """Yields the lines.

        Raises:
            UserError: after the last one, where they are others than the first time.
        """
        digest = hashlib.sha256()
        self._stream.seek(0)
        number = 0
        while data := self._stream.readline(MAX_LINE_BYTES):
            number += 1
            digest.update(data)
            is_whole = data.endswith(b"\n") or len(data) < MAX_LINE_BYTES
            if not is_whole:
                self._pass_over_the_rest(digest)
            if number == 1:
                data = data.removeprefix(codecs.BOM_UTF8)
            if data.strip() or not is_whole:
                yield Line(number, data if is_whole else None)
        found = digest.hexdigest()
        if self.sha256 not in ("", found):
            raise UserError(
                "the input has changed while it was read",
                next_step="start again, with an input that stays as it is",
            )
        self.sha256 = found

    def _pass_over_the_rest(self, digest: "hashlib._Hash") -> None:
        """Reads to the end of a line that is too long."""
        while data := self._stream.readline(MAX_LINE_BYTES):
            digest.update(data)
            if data.endswith(b"\n"):
                return


@contextmanager
def open_input(path: Path, room: Path) -> Iterator[BatchInput]:
    """The input of a batch; - is standard input.

    Args:
        path: a file, a pipe or -.
        room: directory for a copy of what can be read only once; it has no name there.

    Raises:
        UserError: it cannot be read.
    """
    if path != STANDARD_INPUT and path.is_file():
        with path.open("rb") as stream:
            yield BatchInput(stream)
        return
    if path == STANDARD_INPUT and sys.stdin is None:
        raise UserError("standard input is closed", next_step="give the input as a file")
    if path != STANDARD_INPUT and (path.is_dir() or not path.exists()):
        raise UserError(f"{path} is missing or a directory", next_step="give a file of requests")
    try:
        with TemporaryFile(dir=room) as copy:
            if path == STANDARD_INPUT:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            else:
                with path.open("rb") as source:
                    shutil.copyfileobj(source, copy)
            yield BatchInput(copy)
    except OSError as error:
        raise refused(room, error) from error
