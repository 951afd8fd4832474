"""Which files of a bundle were checked before and have not changed since.

A file has not changed while its device, inode, size, and the times of its last writing and of its
last change are what they were when it was checked. The last of these cannot be set: the system sets
it whenever a file is written, replaced, renamed or given to somebody else. What is not noticed is
what goes past the file system: a disk that fails silently, or somebody who writes to the device.

The list lies outside the bundle, in a directory that the user makes for it: a run leaves no files
where nobody asked for them. Nobody else may have written it.
"""

import hashlib
import json
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["PLACE", "CheckedFiles"]

PLACE = "alpaca2-toolchain/checked"  # in the cache of the user
# Nanoseconds in which two changes may get the same time: FAT has two seconds, others much less.
COARSEST = 2_000_000_000

Mark = list[int]


class CheckedFiles:
    """The list of one bundle, as of when it is opened.

    Args:
        path: of the bundle.
        digest: of its manifest; the list of another manifest does not count.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self._digest = digest
        self._began = time.time_ns()
        self._file = _place(path)
        self._marks = {} if self._file is None else _read(self._file, digest)
        self._new: dict[str, Mark] = {}

    def unchanged(self, relative: str, file: Path) -> bool:
        """Whether a file is the one that was checked then."""
        mark = _mark(file.stat())
        same = self._marks.get(relative) == mark
        if same:
            self._new[relative] = mark
        return same

    def add(self, relative: str, before: os.stat_result, file: Path) -> None:
        """Remembers a file that was found right, unless it changed meanwhile or just before."""
        mark = _mark(before)
        if mark == _mark(file.stat()) and before.st_ctime_ns < self._began - COARSEST:
            self._new[relative] = mark

    def save(self) -> None:
        """Writes the list, where there is a place for it that can be written."""
        if self._file is None or self._new == self._marks:
            return
        fresh = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            fresh.touch(0o600)
            found = {"digest": self._digest, "files": self._new}
            fresh.write_text(json.dumps(found, sort_keys=True))
            fresh.replace(self._file)
        except OSError:  # without the directory, or room in it, everything is checked every time
            with suppress(OSError):
                fresh.unlink()


def _place(path: Path) -> Path | None:
    """The file of a bundle's list; None where there is no directory for it."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return cache / PLACE / f"{name}.json" if (cache / PLACE).is_dir() else None


def _read(file: Path, digest: str) -> dict[str, Mark]:
    """What the list says; nothing if it is another's, or anything but such a list."""
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return {}
            found: Any = json.load(stream)
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or found.get("digest") != digest:
        return {}
    files = found.get("files")
    return files if isinstance(files, dict) else {}


def _mark(status: os.stat_result) -> Mark:
    return [
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    ]
