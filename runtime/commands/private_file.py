"""Files that only their owner can read: complete at any moment, never written through a link."""

from pathlib import Path

from runtime.errors import UserError
from runtime.result_files import refused, write_file

__all__ = ["write_private"]


def write_private(path: Path, data: bytes) -> None:
    """Writes a file of mode 0600, as write_file does, where no link is.

    Raises:
        UserError: the place is a link or may not be written, or the disk is full.
    """
    try:
        is_link = path.is_symlink()
    except OSError as error:  # a name that is too long
        raise refused(path, error) from error
    if is_link:
        raise UserError(
            f"{path} is a link", allowed="a file itself", next_step="choose another place"
        )
    write_file(path, data, mode=0o600)
