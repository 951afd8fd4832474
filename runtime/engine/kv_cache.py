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
    """Hands slots out and remembers what each holds, for prefix reuse.

    Args:
        num_slots: sequences that it holds.
        capacity: rows of each.
        num_lanes: leading slots in which sequences run side by side. The others keep what finished
            sequences left, so that prefixes outlive their requests.
    """

    def __init__(self, num_slots: int, capacity: int, num_lanes: int) -> None:
        self.slots = tuple(Slot(index, capacity) for index in range(num_slots))
        self.num_lanes = num_lanes
        self._free = list(self.slots)  # least recently used first

    def acquire(self, token_ids: Sequence[int], *, alone: bool = True) -> tuple[Slot, Slot | None]:
        """Takes a free slot for a prompt.

        A slot whose tokens all begin the prompt goes on where it is. Otherwise a sequence that
        runs alone gets the slot that has been free for longest, so that no rows are copied. One
        beside others gets the lowest, since a graph of batch size B takes slots 0 to B - 1.

        Returns:
            The slot, and the slot that must first take over its rows, for prompts to come; None
            where its rows may go.

        Raises:
            SessionError: every slot is in use.
        """
        usable = [slot for slot in self._free if alone or slot.index < self.num_lanes]
        if not usable:
            raise SessionError(
                "every cache slot is in use", next_step="wait for one to finish", code="busy"
            )
        going_on = [s for s in usable if 0 < s.length == common_prefix(s.token_ids, token_ids)]
        if going_on:
            return self._take(max(going_on, key=lambda slot: slot.length)), None
        if alone:
            return self._take(usable[0]), None
        return self.acquire_lowest(self.longest_prefix(token_ids))

    def acquire_lowest(self, kept: Slot) -> tuple[Slot, Slot | None]:
        """Takes the lowest free slot, as acquire; `kept` is one whose rows must stay."""
        slot = min(self._free, key=lambda slot: slot.index)
        oldest = next((slot for slot in self._free if slot is not kept), slot)
        if oldest is slot or not slot.length or self._is_held_elsewhere(slot):
            return self._take(slot), None
        # The heir gets the slot's place in the order, too.
        self._free.remove(oldest)
        self._free[self._free.index(slot)] = oldest
        return slot, oldest

    @property
    def lowest_free(self) -> int:
        """Index of the lowest free slot; the number of slots where none is free."""
        return min((slot.index for slot in self._free), default=len(self.slots))

    def _take(self, slot: Slot) -> Slot:
        self._free.remove(slot)
        return slot

    def _is_held_elsewhere(self, slot: Slot) -> bool:
        return any(
            slot.token_ids == other.token_ids[: slot.length] and slot.shared <= other.shared
            for other in self.slots
            if other is not slot
        )

    @property
    def num_free(self) -> int:
        """Slots that are not lent."""
        return len(self._free)

    def longest_prefix(self, token_ids: Sequence[int]) -> Slot:
        """The slot, in use or not, that holds the longest prefix of a prompt."""
        return max(self.slots, key=lambda slot: common_prefix(slot.token_ids, token_ids))

    def release(self, slot: Slot) -> None:
        """Takes a slot back; its rows stay until somebody writes over them."""
        self._free.append(slot)
