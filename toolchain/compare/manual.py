"""What the manual that this toolchain replaces says of two devices."""

import tomllib
from importlib.resources import files
from typing import Any

from toolchain.compare.side import CaseTimes, Side
from toolchain.errors import CompareError

__all__ = ["MANUAL", "manual_names", "manual_side"]

MANUAL = "manual:"


def manual_side(name: str) -> Side:
    """A device of the manual.

    Raises:
        CompareError: the manual has none of this name.
    """
    data = _read()
    if name not in _devices(data):
        raise CompareError("the manual has no such device", got=name, allowed=manual_names())
    device = data[name]
    return Side(
        name=device["name"],
        times=tuple(CaseTimes(**times) for times in device["times"]),
        accuracy=device["accuracy"],
        benchmark="ceval",
        exam=data["exam"],
        notes=(f"{data['source']}: {data['note']}",),
    )


def manual_names() -> str:
    """The devices as they are typed."""
    return ", ".join(f"{MANUAL}{name}" for name in _devices(_read()))


def _devices(data: dict[str, Any]) -> list[str]:
    return [name for name, value in data.items() if isinstance(value, dict) and "times" in value]


def _read() -> dict[str, Any]:
    """Ours, so its form is not checked."""
    return tomllib.loads((files("toolchain.compare") / "manual.toml").read_text(encoding="utf-8"))
