"""A number with its unit and where it comes from, and the numbers that belong together."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["BuildCosts", "Quantity", "total"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCosts:
    """What one step takes on the host; `read` where it reads more than its own bundle."""

    read: Quantity | None = None
    write: Quantity
    host_memory: Quantity
    time: Quantity

    @property
    def lines(self) -> list[Quantity]:
        """For a table, in order."""
        return [*([self.read] if self.read else []), self.write, self.host_memory, self.time]


def total(parts: list[Quantity]) -> float:
    """The sum of lines of one unit."""
    return sum(part.value for part in parts)
