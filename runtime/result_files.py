"""Files of results: tried before the work, and complete at any moment.

A file is written beside its target, under a fresh name that cannot be guessed, and renamed. What
lies there already is replaced, never opened: a link is not followed.
"""

import os
import secrets
from pathlib import Path

from runtime.console import REMEDIES
from runtime.errors import UserError

__all__ = ["refused", "require_directory", "require_file", "write_file", "write_named"]


def require_directory(path: Path) -> None:
    """Makes a directory if need be, and tries that a file can be made in it.

    Raises:
        UserError: it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        _try(path)
    except OSError as error:
        raise refused(path, error) from error


def require_file(path: Path) -> None:
    """Tries that a file can be written, and leaves nothing.

    Raises:
        UserError: it cannot: its directory does not exist or may not be written.
    """
    try:
        if path.is_dir():
            raise UserError(f"cannot write {path}", got="a directory", allowed="a file's name")
        if not path.parent.is_dir():
            raise UserError(
                f"cannot write {path}",
                got=f"no directory {path.parent}",
                next_step="make it first, or choose another place",
            )
        if not _is_special(path):
            _try(_real(path).parent)
    except OSError as error:
        raise refused(path, error) from error


def write_file(path: Path, data: str | bytes, mode: int = 0o666) -> None:
    """Writes a file so that it is at any moment the old one or the new one, complete.

    Args:
        path: its place; a link there is replaced.
        data: what it holds.
        mode: who may do what with it, less the process's umask.

    Raises:
        UserError: the disk is full, or the place may not be written.
    """
    fresh = _fresh_name(path.parent)
    try:
        _write_fresh(fresh, _bytes(data), mode)
        fresh.rename(path)
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    finally:
        fresh.unlink(missing_ok=True)


def write_named(path: Path, data: str | bytes) -> None:
    """The same for a file that the user named: a link, a pipe and a device are what is meant.

    Raises:
        UserError: the disk is full, or the place may not be written.
    """
    if not _is_special(path):
        write_file(_real(path), data)
        return
    try:
        path.write_bytes(_bytes(data))
    except OSError as error:
        raise refused(path, error) from error


def _fresh_name(directory: Path) -> Path:
    return directory / f".{secrets.token_hex(8)}.partial"


def _bytes(data: str | bytes) -> bytes:
    return data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data


def _write_fresh(path: Path, data: bytes, mode: int = 0o666) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _try(directory: Path) -> None:
    fresh = _fresh_name(directory)
    try:
        _write_fresh(fresh, b"tried")
    finally:
        fresh.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    """Whether it is a pipe or a device, such as /dev/stdout."""
    return path.exists() and not path.is_file()


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def refused(path: Path, error: OSError | ValueError, what: str = "write") -> UserError:
    """What the system did not let us do with a file, and what to do about it.

    A ValueError says that the name has a zero byte.
    """
    number, reason = None, str(error)
    if isinstance(error, OSError):
        number, reason = error.errno, error.strerror or reason
    return UserError(
        f"cannot {what} {path}",
        got=reason.lower(),
        next_step=REMEDIES.get(number or 0, "choose another place"),
    )
