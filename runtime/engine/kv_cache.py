"""Which tokens each cache slot holds. Knows lengths and ids; the rows are the session's."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.errors import SessionError

__all__ = ["KVCache", "Slot", "common_prefix"]


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of equal leading ids."""
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return i
    return min(len(left), len(right))


@dataclass(slots=True)
class Slot:
    """One sequence's place in the cache: row i holds the keys and values of token_ids[i].

    shared: leading rows that were run by themselves from an empty slot, for other prompts to
        share; 0 where no prompt said so.
    """

    index: int
    capacity: int
    token_ids: list[int] = field(default_factory=list)
    shared: int = 0

    @property
    def length(self) -> int:
        """Valid rows."""
        return len(self.token_ids)

    @property
    def room(self) -> int:
        """Rows that can still be written."""
        return self.capacity - self.length

    def append(self, token_ids: Sequence[int]) -> None:
        """Records tokens whose rows have been written."""
        assert len(token_ids) <= self.room, "the engine checks the room first"
        self.token_ids.extend(token_ids)

    def truncate(self, length: int) -> None:
        """Goes back to an earlier length; the rows behind it become free."""
        del self.token_ids[length:]
        if length < self.shared:
            self.shared = 0


class KVCache:
    """Hands slots out and remembers what each holds, for prefix reuse."""

    def __init__(self, num_slots: int, capacity: int) -> None:
        self.slots = tuple(Slot(index, capacity) for index in range(num_slots))
        self._free = list(self.slots)  # least recently used first

    def acquire(self, token_ids: Sequence[int]) -> Slot:
        """A free slot for a prompt.

        A slot whose tokens all begin the prompt goes on where it is. Otherwise the one that has
        been free for longest is given, so that other conversations keep theirs.

        Raises:
            SessionError: every slot is in use.
        """
        if not self._free:
            raise SessionError(
                "every cache slot is in use", next_step="wait for one to finish", code="busy"
            )
        going_on = [s for s in self._free if 0 < s.length == common_prefix(s.token_ids, token_ids)]
        slot = max(going_on, key=lambda slot: slot.length, default=self._free[0])
        self._free.remove(slot)
        return slot

    def longest_prefix(self, token_ids: Sequence[int]) -> Slot:
        """The slot, in use or not, that holds the longest prefix of a prompt."""
        return max(self.slots, key=lambda slot: common_prefix(slot.token_ids, token_ids))

    def release(self, slot: Slot) -> None:
        """Takes a slot back; its rows stay until somebody writes over them."""
        self._free.append(slot)
