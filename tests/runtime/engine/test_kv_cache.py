"""Claims about runtime.kv_cache, against a model that is a plain list of tokens per slot."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.engine.kv_cache import KVCache, Slot, common_prefix
from runtime.errors import SessionError

NUM_SLOTS, CAPACITY = 3, 6

token_lists = st.lists(st.integers(0, 2), max_size=CAPACITY)  # few ids, so that prefixes are shared
positions = st.integers(0, NUM_SLOTS * CAPACITY)


def num_shared(left: list[int], right: list[int]) -> int:
    return max(n for n in range(len(left) + 1) if left[:n] == right[:n])


class PlainLists(RuleBasedStateMachine):
    """Any order of calls, mirrored on lists; `used` holds the slots that are lent."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = KVCache(NUM_SLOTS, CAPACITY)
        self.used: list[Slot] = []
        self.rows: list[list[int]] = [[] for _ in range(NUM_SLOTS)]
        self.waiting = list(range(NUM_SLOTS))  # free slots, least recently used first

    def free(self) -> set[int]:
        return set(range(NUM_SLOTS)) - {slot.index for slot in self.used}

    @rule(prompt=token_lists)
    def acquire(self, prompt: list[int]) -> None:
        shared = {i: num_shared(self.rows[i], prompt) for i in self.free()}
        if not shared:
            with pytest.raises(SessionError, match="every cache slot is in use") as refusal:
                self.cache.acquire(prompt)
            assert refusal.value.code == "busy"
            return
        going_on = [i for i, n in shared.items() if 0 < n == len(self.rows[i])]
        slot = self.cache.acquire(prompt)
        if going_on:
            assert len(self.rows[slot.index]) == max(len(self.rows[i]) for i in going_on)
        else:
            assert slot.index == self.waiting[0]
        self.waiting.remove(slot.index)
        self.used.append(slot)
        best = self.cache.longest_prefix(prompt)
        every = [num_shared(rows, prompt) for rows in self.rows]
        assert every[best.index] == max(every)

    @precondition(lambda self: self.used)
    @rule(at=positions)
    def release(self, at: int) -> None:
        slot = self.used.pop(at % len(self.used))
        self.cache.release(slot)
        self.waiting.append(slot.index)

    @precondition(lambda self: self.used)
    @rule(at=positions, token_ids=token_lists)
    def append(self, at: int, token_ids: list[int]) -> None:
        slot = self.used[at % len(self.used)]
        fitting = token_ids[: CAPACITY - len(self.rows[slot.index])]
        slot.append(fitting)
        self.rows[slot.index] += fitting

    @precondition(lambda self: self.used)
    @rule(at=positions, length=st.integers(0, CAPACITY))
    def truncate(self, at: int, length: int) -> None:
        slot = self.used[at % len(self.used)]
        slot.truncate(length)
        self.rows[slot.index] = self.rows[slot.index][:length]

    @invariant()
    def slots_equal_the_lists(self) -> None:
        for slot in self.used:
            rows = self.rows[slot.index]
            assert slot.token_ids == rows
            assert (slot.length, slot.room) == (len(rows), CAPACITY - len(rows))


TestAnySequenceOfCallsEqualsPlainLists = PlainLists.TestCase
TestAnySequenceOfCallsEqualsPlainLists.settings = settings(max_examples=100, stateful_step_count=30)


@given(token_lists, token_lists)
def test_the_common_prefix_is_the_longest_equal_slice(left: list[int], right: list[int]) -> None:
    assert common_prefix(left, right) == num_shared(left, right)


def test_a_conversation_goes_on_in_its_slot_and_others_take_the_least_recently_used() -> None:
    cache = KVCache(NUM_SLOTS, CAPACITY)
    slots = [cache.acquire([]) for _ in range(NUM_SLOTS)]
    for slot, token_ids in zip(slots, ([1, 2, 3], [1, 2, 4], [5]), strict=True):
        slot.append(token_ids)
    for slot in (slots[2], slots[0], slots[1]):
        cache.release(slot)
    assert cache.acquire([1, 2, 4, 4]) is slots[1]  # it holds the beginning of this prompt
    assert cache.acquire([1, 2, 5]) is slots[2]  # nobody does; this one waits the longest
    assert cache.longest_prefix([1, 2, 5]) is slots[0]


def test_going_back_into_the_shared_rows_forgets_that_they_are_shared() -> None:
    slot = Slot(0, CAPACITY, [1, 2, 3, 4], shared=3)
    slot.truncate(3)
    assert slot.shared == 3
    slot.truncate(2)
    assert slot.shared == 0
