"""Claims about runtime.kv_cache, against a model that is a plain list of tokens per slot."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.engine.kv_cache import KVCache, Slot, common_prefix
from runtime.errors import SessionError

NUM_SLOTS, NUM_LANES, CAPACITY = 4, 3, 6

token_lists = st.lists(st.integers(0, 2), max_size=CAPACITY)  # few ids, so that prefixes are shared
positions = st.integers(0, NUM_SLOTS * CAPACITY)


def num_shared(left: list[int], right: list[int]) -> int:
    return max(n for n in range(len(left) + 1) if left[:n] == right[:n])


class PlainLists(RuleBasedStateMachine):
    """Any order of calls, mirrored on lists; `used` holds the slots that are lent."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = KVCache(NUM_SLOTS, CAPACITY, NUM_LANES)
        self.used: list[Slot] = []
        self.rows: list[list[int]] = [[] for _ in range(NUM_SLOTS)]
        self.waiting = list(range(NUM_SLOTS))  # free slots, least recently used first

    @rule(prompt=token_lists, alone=st.booleans())
    def acquire(self, prompt: list[int], alone: bool) -> None:
        usable = [i for i in self.waiting if alone or i < NUM_LANES]
        if not usable:
            with pytest.raises(SessionError, match="every cache slot is in use") as refusal:
                self.cache.acquire(prompt, alone=alone)
            assert refusal.value.code == "busy"
            return
        best = self.cache.longest_prefix(prompt)
        every = [num_shared(rows, prompt) for rows in self.rows]
        assert every[best.index] == max(every)
        lengths = [len(self.rows[i]) for i in usable if self.rows[i] == prompt[: len(self.rows[i])]]
        slot, heir = self.cache.acquire(prompt, alone=alone)
        if any(lengths):
            assert (len(self.rows[slot.index]), heir) == (max(lengths), None)
        elif alone:
            assert (slot.index, heir) == (usable[0], None)
        else:
            assert slot.index == min(usable)
            oldest = next((i for i in self.waiting if i != best.index), slot.index)
            if heir is not None:  # takes over the rows and their place in the order
                assert heir.index == oldest != slot.index
                heir.truncate(0)
                heir.append(slot.token_ids)
                self.rows[heir.index] = list(slot.token_ids)
                self.waiting.remove(oldest)
                self.waiting.insert(self.waiting.index(slot.index), oldest)
            elif oldest != slot.index:
                copies = [r for i, r in enumerate(self.rows) if i != slot.index]
                mine = self.rows[slot.index]
                assert any(mine == rows[: len(mine)] for rows in copies), "rows were lost"
        self.waiting.remove(slot.index)
        self.used.append(slot)

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
        assert self.cache.num_free == NUM_SLOTS - len(self.used)
        for slot in self.cache.slots:
            rows = self.rows[slot.index]
            assert slot.token_ids == rows
            assert (slot.length, slot.room) == (len(rows), CAPACITY - len(rows))


TestAnySequenceOfCallsEqualsPlainLists = PlainLists.TestCase
TestAnySequenceOfCallsEqualsPlainLists.settings = settings(max_examples=100, stateful_step_count=30)


@given(token_lists, token_lists)
def test_the_common_prefix_is_the_longest_equal_slice(left: list[int], right: list[int]) -> None:
    assert common_prefix(left, right) == num_shared(left, right)


def test_a_conversation_goes_on_in_its_slot_and_others_take_the_least_recently_used() -> None:
    cache = KVCache(3, CAPACITY, 3)
    slots = [cache.acquire([])[0] for _ in range(3)]
    for slot, token_ids in zip(slots, ([1, 2, 3], [1, 2, 4], [5]), strict=True):
        slot.append(token_ids)
    for slot in (slots[2], slots[0], slots[1]):
        cache.release(slot)
    assert cache.acquire([1, 2, 4, 4]) == (slots[1], None)  # it holds the beginning of this prompt
    assert cache.acquire([1, 2, 5]) == (slots[2], None)  # nobody does; this one waits the longest
    assert cache.longest_prefix([1, 2, 5]) is slots[0]


def test_beside_others_the_lowest_lane_is_lent_and_its_rows_go_where_the_oldest_were() -> None:
    cache = KVCache(4, CAPACITY, 2)
    for token_id in range(2):
        slot, _ = cache.acquire([token_id], alone=False)
        slot.append([token_id])
        cache.release(slot)
    slot, heir = cache.acquire([7], alone=False)
    assert heir is not None
    assert (slot.index, heir.index) == (0, 2)  # slot 2 was never used
    cache.release(slot)


def test_going_back_into_the_shared_rows_forgets_that_they_are_shared() -> None:
    slot = Slot(0, CAPACITY, [1, 2, 3, 4], shared=3)
    slot.truncate(3)
    assert slot.shared == 3
    slot.truncate(2)
    assert slot.shared == 0
