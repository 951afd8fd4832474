"""A directory that appears complete or not at all."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from runtime.bundle.work_directory import WorkDirectory
from runtime.errors import UserError

__all__ = ["NEW", "AtomicDirectory"]

# In the work directory: what is written, and what was in its place.
NEW, OLD = "new", "old"


class AtomicDirectory:
    """Written beside its place, and moved there by `put` instead of what was there.

    Use as a context manager; without `put` nothing remains and nothing changes.

    Raises:
        UserError: the place is a mount point, cannot be written, or is written by another run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if self.path.is_mount():
            raise UserError(
                f"{self.path} is a mount point and cannot be renamed to",
                next_step=f"give a directory in it, such as {self.path / 'bundle'}",
            )
        self._work = WorkDirectory(self.path, self._put_back)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._work)
            self.directory.mkdir()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._put_back(self._work.path)
        self._work.remove()

    @property
    def directory(self) -> Path:
        """Where it is written."""
        return self._work.path / NEW

    def scratch(self, name: str) -> Path:
        """A new directory on the same disk, which is gone at the end."""
        path = self._work.path / name
        path.mkdir()
        return path

    def require(self, num_bytes: int) -> None:
        """Refuses a disk that has no room for so many bytes.

        Raises:
            UserError: too little is free.
        """
        free = shutil.disk_usage(self._work.path).free
        if free < num_bytes:
            raise UserError(
                f"the disk of {self.path.parent} is too full",
                got=f"{free / 1e6:.1f} MB free",
                allowed=f"{num_bytes / 1e6:.1f} MB or more",
                next_step="free some or choose another -o",
            )

    def put(self) -> None:
        """Moves it to its place, and removes what was there."""
        if self.path.exists():
            self.path.rename(self._work.path / OLD)
        self.directory.rename(self.path)
        self._work.remove()

    def _put_back(self, work: Path) -> None:
        """Moves back what was being replaced, unless another has taken its place."""
        old = work / OLD
        if old.exists() and not self.path.exists():
            old.rename(self.path)
