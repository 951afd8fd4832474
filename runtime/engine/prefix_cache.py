"""Lends cache slots to prompts, with the rows that any slot holds of them already.

Decides by runtime.engine.kv_cache and copies rows by the session.
"""

from collections.abc import Sequence

from runtime.engine.kv_cache import KVCache, Slot, common_prefix
from runtime.sessions.base import Session

__all__ = ["PrefixCache"]


BEYOND = 1 << 30  # a batch size that no graph has


class PrefixCache:
    """The slots of one session.

    Args:
        session: the device, which holds the rows.
        reuse_prefix: whether rows are reused at all.
    """

    def __init__(self, session: Session, *, reuse_prefix: bool) -> None:
        self._session = session
        self._reuse_prefix = reuse_prefix
        manifest = session.manifest
        sizes = {g.spec.batch_size for g in manifest.graphs if g.spec.phase == "decode"} | {1}
        largest = max(sizes)
        # Where shapes are open, a graph computes no row beyond the highest slot in use.
        self._batch_sizes = sorted(sizes) if session.static_shapes else range(1, largest + 1)
        self.num_lanes = largest if largest > 1 else manifest.num_slots
        """Sequences that can run side by side."""
        self._cache = KVCache(manifest.num_slots, manifest.cache_len, self.num_lanes)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All of them, in use or not."""
        return self._cache.slots

    @property
    def num_free(self) -> int:
        """Slots that are not lent."""
        return self._cache.num_free

    def place(self, prompt: Sequence[int], *, alone: bool = True) -> Slot:
        """Takes a slot for a prompt, with all rows of it that any slot holds.

        Args:
            prompt: what will be run in it.
            alone: whether no other sequence is running.

        Raises:
            SessionError: every slot is in use, or rows cannot be copied.
        """
        slot, heir = self._cache.acquire(prompt, alone=alone)
        try:
            self._bequeath(slot, heir)
            if self._reuse_prefix:
                self._copy_prefix(slot, prompt)
        except BaseException:
            self.discard(slot)
            raise
        return slot

    def release(self, slot: Slot) -> None:
        """Takes a slot back.

        It keeps what it holds, or of a prompt that said what it `shared` just that.
        """
        if slot.shared > slot.length:  # it never got so far
            slot.shared = 0
        if slot.shared:
            slot.truncate(slot.shared)
        self._cache.release(slot)

    def discard(self, slot: Slot) -> None:
        """Takes a slot back whose rows are not to be trusted, after a fault."""
        slot.truncate(0)
        self._cache.release(slot)

    def compact(self, slots: Sequence[Slot]) -> list[Slot]:
        """Moves the highest sequence down where a smaller graph then runs all of them.

        One at a time, so that no stream waits for more than one copy.

        Returns:
            The slots of the same sequences, in the same order.

        Raises:
            SessionError: rows cannot be copied; the sequences are where they were.
        """
        highest = max(slots, key=lambda slot: slot.index)
        if (
            len(slots) == 1
            or self._batch_size(highest.index) <= self._batch_size(len(slots) - 1)
            or self._cache.lowest_free > highest.index
        ):
            return list(slots)
        lower = self._move_down(highest)
        return [lower if slot is highest else slot for slot in slots]

    def _move_down(self, slot: Slot) -> Slot:
        lower, heir = self._cache.acquire_lowest(slot)
        try:
            self._bequeath(lower, heir)
            self._copy(slot, lower, slot.length)
        except BaseException:
            self.discard(lower)
            raise
        self._cache.release(slot)
        return lower

    def _batch_size(self, highest: int) -> int:
        """Rows that a decode step computes where this is the highest slot in use.

        Beyond the largest graph it takes a call for each, which is dearer than any.
        """
        return next((size for size in self._batch_sizes if size > highest), BEYOND)

    def _bequeath(self, slot: Slot, heir: Slot | None) -> None:
        if heir is not None and self._reuse_prefix:
            self._copy(slot, heir, slot.length)

    def _copy_prefix(self, slot: Slot, prompt: Sequence[int]) -> None:
        best = self._cache.longest_prefix(prompt)
        found = common_prefix(best.token_ids, prompt)
        if found > common_prefix(slot.token_ids, prompt):
            self._copy(best, slot, found)

    def _copy(self, source: Slot, target: Slot, num_rows: int) -> None:
        target.truncate(0)  # before its rows are written over
        self._session.copy_rows(source.index, target.index, num_rows)
        target.append(source.token_ids[:num_rows])
        target.shared = source.shared if source.shared <= num_rows else 0
