"""Frozen data that is checked when it is made."""

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["Record", "first_problem"]


class Record(BaseModel):
    """Frozen data that refuses unknown keys and silently converted types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def first_problem(error: ValidationError) -> str:
    """What is wrong with a record, in one line: the key, the reason and the value."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}; remove it or correct its spelling"
    reason = first["msg"].removeprefix("Value error, ")
    if not where:
        return reason
    value = "" if first["type"] == "missing" else f"; got {first['input']!r}"[:80]
    return f"{where}: {reason}{value}"
