"""A fresh directory beside an output, held by one run, in which the output is made.

Its name cannot be guessed and it is made by this run: nothing that was there before is written to.
What a killed run left is known by its name, by being a directory of the same user and no link, and
by a lock that nobody holds. Nothing else is ever removed.
"""

import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from runtime.errors import UserError

__all__ = ["WorkDirectory", "work_path"]

RANDOM = "[a-z0-9_]{8}"  # what tempfile puts behind a prefix
WITHOUT_WAITING = fcntl.LOCK_EX | fcntl.LOCK_NB


def work_path(output: Path, random: str = "XXXXXXXX") -> Path:
    """Where an output is made; a run has random letters for the X."""
    return output.parent / f".{output.name}.partial-{random}"


class WorkDirectory:
    """The directory at `path`, from `with` until `remove` or the end of the block.

    Args:
        output: what is made in it; an absolute path.
        settle: given what a killed run left, before it is removed.

    Raises:
        UserError: another run makes this output, or its folder cannot be written.
    """

    path: Path

    def __init__(self, output: Path, settle: Callable[[Path], None]) -> None:
        self._output, self._settle = output, settle
        self._made = False
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException as error:  # also a signal; `with` leaves only what it has entered
            self.remove()
            if not isinstance(error, OSError):
                raise
            raise self._named(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Removes the directory and all in it, and lets the next run begin."""
        if self._made:
            shutil.rmtree(self.path, ignore_errors=True)
            self._made = False
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _make(self) -> None:
        folder, prefix = self._output.parent, work_path(self._output, "").name
        folder.mkdir(parents=True, exist_ok=True)
        with _held(folder, fcntl.LOCK_EX):  # of two runs that begin together, one is the first
            for left in sorted(folder.iterdir()):
                if re.fullmatch(re.escape(prefix) + RANDOM, left.name) and _is_own(left):
                    self._clear(left)
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
            self._made = True
            self._lock = _lock(self.path, WITHOUT_WAITING)

    def _clear(self, left: Path) -> None:
        """Settles and removes what another run left, unless it still runs."""
        with suppress(FileNotFoundError), _held(left, WITHOUT_WAITING):  # it may end just now
            self._settle(left)
            shutil.rmtree(left, ignore_errors=True)

    def _named(self, error: OSError) -> UserError:
        if isinstance(error, BlockingIOError):
            what = f"another run is writing {self._output}"
            return UserError(what, next_step="wait for it", code="busy")
        what = f"cannot write to {self._output.parent}"
        return UserError(what, got=error.strerror, next_step="choose -o")


def _is_own(path: Path) -> bool:
    """Whether this user made it, and it is a directory and no link."""
    try:
        found = path.lstat()
    except FileNotFoundError:  # removed since it was listed
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _lock(directory: Path, how: int) -> int:
    """Opens a directory and locks it until it is closed or the process ends; follows no link."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, how)
    except BaseException:
        os.close(opened)
        raise
    return opened


@contextmanager
def _held(directory: Path, how: int) -> Iterator[None]:
    opened = _lock(directory, how)
    try:
        yield
    finally:
        os.close(opened)
