"""What `npu-smi info` shows: each chip takes two rows, the last column of the second is memory.

310P cards have one column for memory; 910B cards have two, the last of which is the HBM.
"""

import re
from dataclasses import dataclass

__all__ = ["ListedChip", "read_chips"]

NAME_ROW = re.compile(r"\|\s*\d+\s+(\S*[A-Za-z]\S*)\s*\|\s*(\S+)\s*\|")
MEMORY_ROW = re.compile(r"\|\s*\d+(?:\s+\d+)?\s*\|.*?(\d+)\s*/\s*(\d+)\s*\|\s*$")
MIB = 1 << 20  # the unit that npu-smi calls MB


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedChip:
    """A chip; used and total are bytes of its memory."""

    name: str
    health: str
    used: int
    total: int


def read_chips(listing: str) -> list[ListedChip]:
    """The chips of a listing; none where the form is not known."""
    chips = []
    name = health = ""
    for line in listing.splitlines():
        if match := NAME_ROW.match(line):
            name, health = match.groups()
        elif name and (match := MEMORY_ROW.match(line)):
            used, total = (MIB * int(number) for number in match.groups())
            chips.append(ListedChip(name=name, health=health, used=used, total=total))
            name = ""
    return chips
