"""JSON files that others wrote, read with limits.

No such file hangs or crashes a reader, or is read differently by two readers. What is wrong with
one is raised as the caller's own error, which names the file.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runtime.errors import UserError

__all__ = [
    "LFS_POINTER",
    "as_text",
    "first_line",
    "parse_json",
    "problem",
    "read_file",
    "read_json",
    "read_object",
]

MAX_BYTES = 1 << 26  # 64 MiB; the tokenizer.json of a model with 256,000 pieces is half of it
MAX_DEPTH = 64
MAX_DIGITS = 100  # model_max_length of many a tokenizer_config.json is 1 followed by 30 digits
LFS_POINTER = b"version https://git-lfs"


def read_file(file: Path, error: type[UserError], max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a small file.

    Raises:
        error: no such file, a link to nowhere, too large, unreadable, or only a git-lfs pointer.
    """
    if not file.is_file():
        if file.is_symlink() and not file.exists():
            raise error(f"{file} is a link to nowhere", next_step="mend or remove it")
        raise error(f"{file} is missing or no regular file", next_step="put the file there")
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as caught:
        raise error(f"{file} cannot be read", got=caught.strerror) from caught
    if len(data) > max_bytes:
        raise error(f"{file} is too large", allowed=f"up to {max_bytes} bytes")
    if data.startswith(LFS_POINTER):
        raise error(
            f"{file} is a git-lfs pointer, not the file itself",
            next_step="install git-lfs and run `git lfs pull` there",
        )
    return data


def read_json(file: Path, error: type[UserError]) -> Any:
    """What a JSON file says.

    Raises:
        error: as read_file and parse_json.
    """
    return parse_json(read_file(file, error), str(file), error)


def read_object(file: Path, error: type[UserError]) -> dict[str, Any]:
    """What a JSON file with an object says.

    Raises:
        error: as read_json, or something else than an object.
    """
    value = read_json(file, error)
    if not isinstance(value, dict):
        raise error(f"{file} is not a JSON object", got=type(value).__name__)
    return value


def parse_json(data: bytes, name: str, error: type[UserError]) -> Any:
    """What JSON says; NaN, infinity and a key that stands twice are none.

    Args:
        data: UTF-8, perhaps with a byte order mark.
        name: of the file, for the message.
        error: what to raise.

    Raises:
        error: not JSON, or beyond the limits above.
    """
    try:
        value = json.loads(as_text(data), object_pairs_hook=_unique)
    except RecursionError as caught:
        raise error(f"{name} is not JSON: {_too_deep()}") from caught
    except ValueError as caught:
        raise error(f"{name} is not JSON: {first_line(caught)}") from caught
    reason = problem(value)
    if reason is not None:
        raise error(f"{name} is not JSON: {reason}")
    return value


def as_text(data: bytes) -> str:
    """UTF-8 as text, without a byte order mark; UnicodeDecodeError, a ValueError, for others."""
    return data.decode("utf-8-sig")


def problem(value: object) -> str | None:
    """Why a document is not taken: its depth, a number or a text; None for a good one.

    For every format whose parser gives dicts, lists, texts and numbers.
    """
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return None
        for each in level:
            reason = _scalar_problem(each)
            if reason is not None:
                return reason
        level = [child for each in level for child in _children(each)]
    return _too_deep() if level else None


def first_line(error: Exception) -> str:
    """What an error says first, without the advice that Python gives to programmers."""
    return (str(error).splitlines() or [type(error).__name__])[0].split("; use sys.")[0]


def _too_deep() -> str:
    return f"nested deeper than {MAX_DEPTH} levels"


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()


def _scalar_problem(value: object) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no number"
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        return f"a number of more than {MAX_DIGITS} digits"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{value[:40]!a} is not valid Unicode"
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = max(counts, key=counts.__getitem__)
        raise ValueError(f"the key {twice[:40]!a} stands twice in one object")
    return table
