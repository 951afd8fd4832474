"""The table of `cuda.py`. Needs no package."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Line", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: of which part, what it says, what was found, and what was hoped for."""

    part: str
    what: str
    measured: str
    goal: str = ""


def table(lines: Sequence[Line], settings: object, card: str) -> str:
    """Markdown, under the date and the card."""
    rows = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {card}, {settings}",
        "",
        "| part | | measured | goal |",
        "|---|---|---|---|",
        *(
            f"| {line.part} | {line.what} | {_cell(line.measured)} | {line.goal} |"
            for line in lines
        ),
    ]
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
