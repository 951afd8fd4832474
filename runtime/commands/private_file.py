"""Files that only their owner can read: complete at any moment, never written through a link."""

import os
import tempfile
from pathlib import Path

from runtime.console import REMEDIES
from runtime.errors import UserError

__all__ = ["refused", "write_private"]


def write_private(path: Path, data: bytes) -> None:
    """Writes a file of mode 0600 under a fresh name beside its place, and renames it.

    Raises:
        UserError: the place is a link or may not be written, or the disk is full.
    """
    try:
        if path.is_symlink():
            raise UserError(
                f"{path} is a link", allowed="a file itself", next_step="choose another place"
            )
        descriptor, fresh = tempfile.mkstemp(prefix=".", suffix=".partial", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            Path(fresh).replace(path)
        finally:
            Path(fresh).unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise refused("write", path, error) from error


def refused(what: str, path: Path, error: OSError | ValueError) -> UserError:
    """What the system did not let us do with a file, and what to do about it."""
    number, reason = None, str(error)
    if isinstance(error, OSError):
        number, reason = error.errno, error.strerror or reason
    return UserError(
        f"cannot {what} {path}",
        got=reason.lower(),
        next_step=REMEDIES.get(number or 0, "choose another place"),
    )
