"""Claims about attention over an int8 cache, with every instruction set of this CPU."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.kernels.library import Kernels
from tests.runtime.kernels.attention import Case, in_float64, random_case

# New rows and those before them: one and few rows, which read the cache as it lies, and more; on
# both sides of 24 rows that go together, of 512 positions and of 512 rows of a part.
SIZES = [(1, [0]), (1, [511]), (1, [512]), (3, [30, 600, 0]), (5, [70]), (25, [500]), (530, [0])]
HEADS = [(2, 2), (4, 1)]
BAD = [np.nan, np.inf, -np.inf]

fuzz = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def with_set(kernels: Kernels, name: str, case: Case) -> bytes:
    kernels.select(name)
    try:
        return b"".join(array.tobytes() for array in case.run(kernels))
    finally:
        kernels.select(None)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("head_dim", [16, 80, 128, 256])
@pytest.mark.parametrize(("num_rows", "starts"), SIZES)
def test_it_is_attention_over_what_the_cache_stands_for(
    kernels: Kernels, num_rows: int, starts: list[int], head_dim: int, heads: tuple[int, int]
) -> None:
    case = random_case(np.random.default_rng(1), starts, num_rows, heads, head_dim, spare=0)
    y, keys, values = case.run(kernels)
    expected, expected_keys, expected_values = in_float64(case)
    for cached, wanted in ((keys, expected_keys), (values, expected_values)):
        assert np.abs(cached.astype(int) - wanted).max() <= 1  # a new level may lie between two
        assert (cached != wanted).mean() < 1e-3
    error = (y - expected) / case.value_scale.repeat(heads[0] // heads[1], axis=0)
    size = expected / case.value_scale.repeat(heads[0] // heads[1], axis=0)
    # Probabilities have 7 bits beside the largest of 32, queries 15.
    assert np.sqrt((error**2).mean()) < 0.008 * np.sqrt((size**2).mean())


@fuzz
@given(
    starts=st.lists(st.integers(0, 700), min_size=1, max_size=3),
    num_rows=st.integers(1, 60),
    heads=st.sampled_from([(1, 1), (3, 3), (4, 2), (7, 1)]),
    head_dim=st.sampled_from([16, 48, 64, 96, 128]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_instruction_set_gives_the_same_bits(
    kernels: Kernels,
    starts: list[int],
    num_rows: int,
    heads: tuple[int, int],
    head_dim: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng, starts, num_rows, heads, head_dim, spread=float(rng.choice([0, 1, 30])))
    case.query[rng.random(case.query.shape) < 0.001] = np.inf
    results = {with_set(kernels, name, case) for name in kernels.instruction_sets}
    assert len(results) == 1


@pytest.mark.parametrize("head_dim", [48, 64])
@pytest.mark.parametrize("heads", [(2, 2), (7, 1)])
@pytest.mark.parametrize(("num_rows", "start"), [(2, 511), (7, 1020), (40, 490), (530, 0)])
def test_a_row_comes_out_the_same_whatever_rows_are_beside_it(
    kernels: Kernels, num_rows: int, start: int, heads: tuple[int, int], head_dim: int
) -> None:
    """And by whatever instruction set: few rows and many do not run the same code."""
    case = random_case(np.random.default_rng(num_rows), [start], num_rows, heads, head_dim)
    together, rows = case.run(kernels)[0], case.arrays
    sets = [*kernels.instruction_sets] * num_rows
    for i, name in zip(range(num_rows), sets, strict=False):
        rows |= {
            name: np.ascontiguousarray(getattr(case, name)[:, i : i + 1])
            for name in ("query", "key", "value")
        }
        rows["last_positions"] = np.array([start + i], np.int32)
        kernels.select(name)
        alone = kernels.attend(**rows)
        kernels.select(None)
        np.testing.assert_array_equal(alone[:, 0], together[:, i])


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("num_rows", [3, 30])
def test_what_is_no_number_stays_in_its_row(kernels: Kernels, num_rows: int, bad: float) -> None:
    case = random_case(np.random.default_rng(0), [5], num_rows, (2, 2), 64)
    clean = case.run(kernels)[0]
    case.query[0, 1, 1, 7] = bad
    for name in kernels.instruction_sets:
        kernels.select(name)
        y = case.run(kernels)[0]
        assert np.isnan(y[0, 1, 1]).all()
        y[0, 1, 1] = clean[0, 1, 1]
        np.testing.assert_array_equal(y, clean)
    kernels.select(None)


def test_what_is_no_number_is_cached_as_zero(kernels: Kernels) -> None:
    case = random_case(np.random.default_rng(6), [5], 2, (2, 2), 64)
    case.key[0, 1, 0, 3] = case.value[0, 1, 0, 3] = np.nan
    for name in kernels.instruction_sets:
        kernels.select(name)
        _, keys, values = case.run(kernels)
        assert keys[0, 0, 6, [3, 35]].tolist() == [0, 0]  # both that are turned with it
        assert values[0, 0, 6, 3] == 0
        assert values[0, 0, 6].any()
    kernels.select(None)


@pytest.mark.parametrize("num_rows", [1, 30])
def test_what_lies_behind_the_new_rows_is_not_seen(kernels: Kernels, num_rows: int) -> None:
    case = random_case(np.random.default_rng(2), [40], num_rows, (2, 1), 64)
    other = replace(case, keys=case.keys.copy(), values=case.values.copy())
    other.keys[:, :, 40:] ^= 0x55
    other.values[:, :, 40:] ^= 0x55
    np.testing.assert_array_equal(other.run(kernels)[0], case.run(kernels)[0])


@pytest.mark.parametrize("spread", [3.0, 3000.0])
def test_one_position_gives_its_value(kernels: Kernels, spread: float) -> None:
    """However far its score is from zero, on either side."""
    case = random_case(np.random.default_rng(3), [0], 1, (4, 2), 32, spread=spread)
    y, _, values = case.run(kernels)
    expected = values[:, :, 0] * case.value_scale
    np.testing.assert_allclose(y[:, 0], np.repeat(expected, 2, axis=1), rtol=1e-6)


@pytest.mark.parametrize(("heads", "head_dim"), [((2, 2), 24), ((2, 2), 272), ((3, 2), 64)])
def test_sizes_that_it_is_not_made_for_are_refused(
    kernels: Kernels, heads: tuple[int, int], head_dim: int
) -> None:
    case = random_case(np.random.default_rng(4), [0], 1, heads, head_dim)
    with pytest.raises(ValueError, match=f"of {heads[0]} heads of {head_dim} channels"):
        case.run(kernels)


@pytest.mark.parametrize("last", [-1, 1, 9, 2**31 - 1])
def test_rows_outside_the_cache_are_refused(kernels: Kernels, last: int) -> None:
    case = random_case(np.random.default_rng(4), [5], 3, (2, 2), 64)
    case.last_positions[0] = last
    with pytest.raises(ValueError, match=rf"up to rows \[{last}\] of 9"):
        case.run(kernels)
