"""TOML that others wrote, read with the limits that runtime/json_file.py has for JSON."""

import tomllib
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.json_file import as_text, first_line, problem, read_file

__all__ = ["parse_toml", "read_toml"]

MAX_BYTES = 1 << 18
MAX_DOTS = 1000  # in a line: the memory that tomllib takes for a dotted key is their square


def read_toml(file: Path, error: type[UserError]) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        error: it cannot be read, is not TOML, or is beyond a limit.
    """
    return parse_toml(read_file(file, error, MAX_BYTES), str(file), error)


def parse_toml(data: bytes, name: str, error: type[UserError]) -> dict[str, Any]:
    """What TOML says; infinity and NaN are refused, which TOML itself has.

    Args:
        data: UTF-8, perhaps with a byte order mark.
        name: of the file, for the message.
        error: what to raise.

    Raises:
        error: not TOML, or beyond a limit.
    """
    if any(line.count(b".") > MAX_DOTS for line in data.splitlines()):
        raise error(f"{name}: nested too deeply")
    try:
        values = tomllib.loads(as_text(data))
    except RecursionError as caught:
        raise error(f"{name}: nested too deeply") from caught
    except ValueError as caught:  # not UTF-8, not TOML, or thousands of digits
        raise error(f"{name}: {first_line(caught)}") from caught
    reason = problem(values)
    if reason is not None:
        raise error(f"{name}: {reason}")
    return values
