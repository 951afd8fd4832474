"""A number with its unit and where it comes from."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Quantity", "total"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One line of a plan.

    formula: how the value follows from the model and the profile, the numbers put in.
    estimate: true where it rests on a rate or an overhead and not on sizes alone.
    """

    name: str
    value: float
    unit: Literal["B", "s"]
    formula: str
    estimate: bool = False


def total(parts: list[Quantity]) -> float:
    """The sum of lines of one unit."""
    return sum(part.value for part in parts)
