"""A file of whole lines that one run at a time appends to, and from which the next one goes on.

A killed run leaves whole lines, and perhaps the beginning of another, which is cut off.
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Self

from runtime.errors import UserError
from runtime.result_files import refused

__all__ = ["LineFile"]


class LineFile:
    """Use as a context manager; the file is made where it is not there.

    Args:
        path: of the file.
        foreign: the error for a file of others, from what it is.

    Attributes:
        rest: what `lines` found behind the last whole line.

    Raises:
        UserError: another run is writing it, it is no regular file, or it cannot be written.
    """

    def __init__(self, path: Path, foreign: Callable[[str], UserError]) -> None:
        self.path, self.rest = path, b""
        self._foreign = foreign
        self._stream: FileIO

    def __enter__(self) -> Self:
        self._stream = self._open()
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._stream.close()
            raise UserError(
                f"another run is writing {self.path}", next_step="wait for it", code="busy"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def lines(self) -> Iterator[bytes]:
        """The whole lines, each with its end."""
        with self.path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield line
                else:
                    self.rest = line

    def cut(self) -> None:
        """Takes `rest` away."""
        stream = self._stream.fileno()
        os.ftruncate(stream, os.fstat(stream).st_size - len(self.rest))

    def append(self, line: bytes) -> None:
        """Writes a line through to the system.

        Raises:
            UserError: the disk is full; what was written before is kept.
        """
        try:
            while line:  # a disk that fills up takes a part
                line = line[self._stream.write(line) or 0 :]
        except OSError as error:
            raise refused(self.path, error) from error

    def sync(self) -> None:
        """What was written outlives a power failure."""
        os.fsync(self._stream.fileno())

    def _open(self) -> FileIO:
        """The file itself: what a link points to is not ours, and a pipe would wait for ever."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            stream = FileIO(os.open(self.path, flags, 0o666), "a+")
        except OSError as error:
            if self.path.is_symlink():
                raise self._foreign("a link") from error
            raise refused(self.path, error) from error
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            stream.close()
            raise self._foreign("no regular file of one name")
        return stream
