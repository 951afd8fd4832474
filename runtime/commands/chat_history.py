"""What was typed in earlier chats, in a file of its own that only its owner can read.

One JSON text on a line, the oldest first, so that a question of several lines stays one.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from runtime.commands.private_file import write_private
from runtime.console import note
from runtime.errors import UserError
from runtime.json_file import parse_json, read_file
from runtime.result_files import refused

__all__ = ["History", "history_file", "open_history"]

MAX_ENTRIES = 1000
MAX_BYTES = 1 << 18  # of the file: it is written again with every question


def history_file() -> Path:
    """Below $XDG_STATE_HOME or ~/.local/state.

    Raises:
        RuntimeError: this user has no home directory.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # such a one is to be ignored
        state = Path.home() / ".local/state"
    return state / "alpaca2-toolchain/chat_history"


class History:
    """Entries of the file, and new ones for it. Where it cannot be kept that is said once.

    Args:
        file: where it lies; None keeps nothing.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def entries(self) -> list[str]:
        """What the file holds now, the oldest first."""
        if self._file is None:
            return []
        try:
            return list(_entries(self._file))
        except UserError as error:
            self._give_up(error)
            return []

    def add(self, text: str) -> None:
        """Keeps one more, unless it is the last one again; other chats may have added theirs."""
        entries = self.entries()
        if self._file is None or entries[-1:] == [text]:
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._file, _document([*entries, text]))
        except OSError as error:
            self._give_up(refused(self._file, error))
        except UserError as error:
            self._give_up(error)

    def _give_up(self, error: UserError) -> None:
        note(f"the history of this chat is not kept: {error}")
        self._file = None


def open_history() -> History:
    """The history of this user."""
    try:
        return History(history_file())
    except RuntimeError:
        note("the history of this chat is not kept: no home directory; set XDG_STATE_HOME")
        return History(None)


def _entries(file: Path) -> Iterator[str]:
    try:
        if not file.exists():
            return
        data = read_file(file, UserError)
    except OSError as error:
        raise refused(file, error, "read") from error
    for line in data.splitlines():
        try:
            entry = parse_json(line, str(file), UserError)
        except UserError:  # the others are none the worse for a line that something else wrote
            continue
        if isinstance(entry, str):
            yield entry


def _document(entries: list[str]) -> bytes:
    """The newest entries within both limits."""
    lines: list[bytes] = []
    room = MAX_BYTES
    for entry in reversed(entries[-MAX_ENTRIES:]):
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        room -= len(line)
        if room < 0:
            break
        lines.append(line)
    return b"".join(reversed(lines))
