"""One line of the diagnosis, and how a version becomes one."""

from dataclasses import dataclass, replace
from typing import Literal

from toolchain.host.versions import at_least

__all__ = [
    "ABSENT",
    "Item",
    "Purpose",
    "amount_item",
    "is_lacking",
    "judged",
    "optional",
    "version_item",
]

ABSENT = "absent"
Purpose = Literal["both", "compile", "run", "torch"]  # torch: a target that this tool lacks
Verdict = Literal["ok", "warning", "missing", "wrong", "optional"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A thing that was looked for.

    purpose: what it is needed for.
    remedy: how to get it; empty where nothing is to be done.
    """

    name: str
    purpose: Purpose
    found: str
    needed: str
    verdict: Verdict
    remedy: str


def is_lacking(item: Item) -> bool:
    """Whether the work cannot be done without a change."""
    return item.verdict in ("missing", "wrong")


def optional(item: Item) -> Item:
    """The same, for a thing that only the torch target needs."""
    return replace(item, purpose="torch", verdict="ok" if item.verdict == "ok" else "optional")


def judged(
    *, name: str, purpose: Purpose, found: str | None, needed: str, fits: bool, remedy: str
) -> Item:
    """An item that is there and fits, or is wrong, or is missing where nothing was found."""
    return Item(
        name=name,
        purpose=purpose,
        found=found or ABSENT,
        needed=needed,
        verdict="ok" if fits else "wrong" if found else "missing",
        remedy="" if fits else remedy,
    )


def version_item(name: str, purpose: Purpose, found: str | None, minimum: str, remedy: str) -> Item:
    """Judges a version by the oldest that will do."""
    fits = found is not None and at_least(found, minimum)
    return judged(
        name=name,
        purpose=purpose,
        found=found,
        needed=f">= {minimum}",
        fits=fits,
        remedy=remedy,
    )


def amount_item(
    name: str, purpose: Purpose, found: float | None, needed: float, remedy: str
) -> Item:
    """Judges a number of bytes by the least that will do, as far as that is known."""
    fits = found is not None and found >= needed
    return judged(
        name=name,
        purpose=purpose,
        found=None if found is None else f"{found / 1e9:.1f} GB",
        needed=f"about {needed / 1e9:.0f} GB for 7B",
        fits=fits,
        remedy=remedy,
    )
