"""Claims about plan_chunks: a plan covers the prompt, and none costs less."""

from collections.abc import Mapping
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.bundle.manifest import GraphSpec
from runtime.engine.chunks import plan_chunks

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True)
COSTS = st.dictionaries(st.integers(1, 12), st.integers(1, 30), min_size=1, max_size=4)
LONGEST = 4096
# Of graphs of some lengths on caches of some lengths.
CACHES = st.dictionaries(
    st.tuples(st.integers(1, 12), st.integers(0, 20)), st.integers(1, 30), max_size=6
)


def graph(seq_len: int, cache_len: int = LONGEST) -> GraphSpec:
    return GraphSpec(phase="prefill", batch_size=1, seq_len=seq_len, cache_len=cache_len)


def cut(num_tokens: int, costs: Mapping[int, float], *, static_shapes: bool = True) -> list[int]:
    """The lengths of a plan, on graphs of one cache."""
    by_graph = {graph(n): cost for n, cost in costs.items()}
    return [spec.seq_len for spec in plan_chunks(num_tokens, by_graph, static_shapes=static_shapes)]


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

    plan = cut(num_tokens, costs)
    assert sum(plan[:-1]) < num_tokens <= sum(plan)
    assert sum(costs[n] for n in plan) == least(num_tokens)


@given(st.integers(1, 30), st.integers(0, 20), CACHES, st.integers(1, 30))
def test_no_cut_costs_less_where_graphs_read_caches_of_several_lengths(
    num_tokens: int, start: int, caches: dict[tuple[int, int], int], step: int
) -> None:
    """No chunk begins behind more rows than its graph reads."""
    costs = {graph(*sizes): cost for sizes, cost in caches.items()} | {graph(1): step}
    end = start + num_tokens

    @cache
    def least(done: int) -> int:
        fitting = ((spec, cost) for spec, cost in costs.items() if done <= spec.cache_len)
        return 0 if done >= end else min(c + least(done + spec.seq_len) for spec, c in fitting)

    plan, done = plan_chunks(num_tokens, costs, static_shapes=True, start=start), start
    assert sum(costs[spec] for spec in plan) == least(start)
    for spec in plan:
        assert done < end
        assert done <= spec.cache_len
        done += spec.seq_len
    assert done >= end


@given(st.integers(1, 200), LENGTHS)
def test_where_nothing_is_padded_a_plan_has_the_fewest_calls(
    num_tokens: int, seq_lens: list[int]
) -> None:
    """A call over fewer rows costs less by those rows, not by the call itself."""
    plan = cut(num_tokens, on_cpu(seq_lens), static_shapes=False)
    assert plan == [max(seq_lens)] * -(-num_tokens // max(seq_lens))


@given(st.integers(1, 200), LENGTHS)
def test_padding_beyond_a_prompt_is_weighed_against_one_more_call(
    num_tokens: int, seq_lens: list[int]
) -> None:
    """Taking the longest graph that fits was dearer: 6 tokens by 5 + 3 rather than 3 + 3."""
    plan = cut(num_tokens, on_cpu(seq_lens))
    for n in seq_lens:
        assert sum(plan) + 16 * len(plan) <= -(-num_tokens // n) * (n + 16)


@pytest.mark.parametrize(("cost", "first"), [(1.3, 2), (4.5, 5), (30.6, 31), (99.5, 100)])
def test_a_prefill_graph_is_taken_from_where_it_costs_less_than_steps(
    cost: float, first: int
) -> None:
    """A constant of 16 rows made 31 steps of a prompt of 31 tokens, whatever the chip."""
    plans = [cut(n, {1: 1.0, 512: cost}) for n in range(1, 128)]
    assert plans == [[1] * n if n < first else [512] for n in range(1, 128)]


def test_a_prompt_that_starts_takes_the_graph_without_a_cache_sooner_than_one_that_goes_on() -> (
    None
):
    costs = {graph(1): 1.0, graph(512): 3.4, graph(512, 0): 2.0, graph(512, 512): 2.4}
    first = [
        [spec.cache_len for spec in plan_chunks(3, costs, static_shapes=True, start=start)]
        for start in (0, 512, 513)
    ]
    assert first == [[0], [512], [LONGEST] * 3]


def test_a_plan_may_have_thousands_of_chunks() -> None:
    """One recursion per chunk used to end in a RecursionError."""
    assert cut(4096, {1: 1.0}) == [1] * 4096
    assert cut(0, {1: 1.0}) == []
