"""One of the two results that are compared, whatever it was read from."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from runtime.record import Record
from toolchain.bench.llama_bench import SpeedTest

__all__ = ["CATEGORIES", "CaseTimes", "Conditions", "Count", "Measured", "Side"]

Conditions = dict[str, str]  # what a figure depends on besides model and machine, and its value
# A time or a rate is a number that a ratio can be made of.
Measured = Annotated[float, Field(ge=1e-9, le=1e15, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]

# Key in a file of results, and what the manual calls it; in the manual's order.
CATEGORIES = {
    "STEM": "STEM",
    "Social Science": "Social Science",
    "Humanities": "Humanities",
    "Other": "Other",
    "Avg": "Avg acc",
}


class CaseTimes(Record):
    """Forward times of one case; a length that is not stated goes with any."""

    batch_size: Count
    first_token_ms: Measured
    per_token_ms: Measured
    input_tokens: Count | None = None
    output_tokens: Count | None = None

    def matches(self, other: "CaseTimes") -> bool:
        """Whether both are times of the same case, as far as is known."""
        return self.batch_size == other.batch_size and all(
            own is None or theirs is None or own == theirs
            for own, theirs in (
                (self.input_tokens, other.input_tokens),
                (self.output_tokens, other.output_tokens),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What a result says.

    tests: as llama-bench has them; shown where one of the two comes from llama-bench.
    accuracy: share of right answers by key of CATEGORIES.
    benchmark: what the accuracy is of; "" where the file does not say.
    exam, clocks: how accuracy and times were measured, as far as the file says.
    """

    name: str
    times: tuple[CaseTimes, ...] = ()
    tests: tuple[SpeedTest, ...] = ()
    from_llama_bench: bool = False
    accuracy: dict[str, float] = field(default_factory=dict)
    benchmark: str = ""
    exam: Conditions = field(default_factory=dict)
    clocks: Conditions = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def kinds(self) -> str:
        """What it has, for a message."""
        parts = (("times", self.times or self.tests), ("accuracy", self.accuracy))
        return " and ".join(name for name, found in parts if found)
