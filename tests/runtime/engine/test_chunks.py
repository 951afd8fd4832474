"""Claims about plan_chunks: a plan covers the prompt, and none costs less."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.chunks import plan_chunks

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True)
COSTS = st.dictionaries(st.integers(1, 12), st.integers(1, 30), min_size=1, max_size=4)


def on_cpu(seq_lens: list[int]) -> dict[int, float]:
    """A call costs as much as 16 rows, besides its own; one row's call is the unit."""
    return {n: (n + 16) / 17 for n in seq_lens}


@given(st.integers(1, 30), COSTS)
def test_no_cut_of_a_prompt_costs_less_where_every_chunk_is_padded(
    num_tokens: int, costs: dict[int, int]
) -> None:
    @cache
    def least(left: int) -> int:
        return min((c + least(left - n) for n, c in costs.items()), default=0) if left > 0 else 0

    plan = plan_chunks(num_tokens, costs, static_shapes=True)
    assert sum(plan[:-1]) < num_tokens <= sum(plan)
    assert sum(costs[n] for n in plan) == least(num_tokens)


@given(st.integers(1, 200), LENGTHS)
def test_where_nothing_is_padded_a_plan_has_the_fewest_calls(
    num_tokens: int, seq_lens: list[int]
) -> None:
    """A call over fewer rows costs less by those rows, not by the call itself."""
    plan = plan_chunks(num_tokens, on_cpu(seq_lens), static_shapes=False)
    assert plan == [max(seq_lens)] * -(-num_tokens // max(seq_lens))


@given(st.integers(1, 200), LENGTHS)
def test_padding_beyond_a_prompt_is_weighed_against_one_more_call(
    num_tokens: int, seq_lens: list[int]
) -> None:
    """Taking the longest graph that fits was dearer: 6 tokens by 5 + 3 rather than 3 + 3."""
    plan = plan_chunks(num_tokens, on_cpu(seq_lens), static_shapes=True)
    for n in seq_lens:
        assert sum(plan) + 16 * len(plan) <= -(-num_tokens // n) * (n + 16)


@pytest.mark.parametrize(("cost", "first"), [(1.3, 2), (4.5, 5), (30.6, 31), (99.5, 100)])
def test_a_prefill_graph_is_taken_from_where_it_costs_less_than_steps(
    cost: float, first: int
) -> None:
    """A constant of 16 rows made 31 steps of a prompt of 31 tokens, whatever the chip."""
    costs = {1: 1.0, 512: cost}
    plans = [plan_chunks(n, costs, static_shapes=True) for n in range(1, 128)]
    assert plans == [[1] * n if n < first else [512] for n in range(1, 128)]


def test_a_plan_may_have_thousands_of_chunks() -> None:
    """One recursion per chunk used to end in a RecursionError."""
    assert plan_chunks(4096, {1: 1.0}, static_shapes=True) == [1] * 4096
    assert plan_chunks(0, {1: 1.0}, static_shapes=True) == []
