import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.kernels.layout import BITS, BLOCK_SIZES
from runtime.kernels.library import Kernels
from tests.runtime.kernels.rows import random_rows
from tests.runtime.kernels.weights import Weight, quantized, random_weight

PORTABLE = "portable"
# A sum of B blocks rounds 3 B times; a level of x may round the other way than in float64.
ROUNDING = 2.0**-24

shapes = {
    "num_rows": st.integers(1, 40),
    "num_columns": st.integers(1, 300),
    "bits": st.sampled_from(BITS),
    "block_size": st.sampled_from(BLOCK_SIZES),
    "seed": st.integers(0, 2**32 - 1),
}
fuzz = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def with_set(kernels: Kernels, name: str, weight: Weight, x: NDArray[np.float32]) -> bytes:
    kernels.select(name)
    try:
        return weight.multiply(kernels, x).tobytes()
    finally:
        kernels.select(None)


@fuzz
@given(num_x=st.integers(1, 30), **shapes)
def test_the_product_is_that_of_the_quantized_rows_up_to_float_rounding(
    kernels: Kernels,
    num_x: int,
    num_rows: int,
    num_columns: int,
    bits: int,
    block_size: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    weight = random_weight(rng, num_rows, num_columns, bits, block_size)
    x = random_rows(rng, num_x, num_columns)
    rows = quantized(x, block_size)
    expected = rows @ weight.values.T
    # One level of x that lies between two: a step of its block, times the largest weight.
    step = np.abs(x).max(axis=1, keepdims=True) / 127.0 * np.abs(weight.values).max(axis=1)
    sums = np.abs(rows) @ np.abs(weight.values).T
    difference = np.abs(weight.multiply(kernels, x) - expected)
    num_blocks = weight.scales.shape[1]
    assert (difference <= 8 * (num_blocks + 2) * ROUNDING * sums + step + 1e-37).all()
    # such levels are rare
    rounded = difference <= 8 * (num_blocks + 2) * ROUNDING * sums + 1e-37
    assert rounded.all(axis=1).mean() >= 0.8 or num_x < 10


@fuzz
@given(num_x=st.integers(1, 80), **shapes)
def test_every_instruction_set_gives_the_same_bits(
    kernels: Kernels,
    num_x: int,
    num_rows: int,
    num_columns: int,
    bits: int,
    block_size: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    weight = random_weight(rng, num_rows, num_columns, bits, block_size)
    x = random_rows(rng, num_x, num_columns)
    x[rng.random(num_x) < 0.1, rng.integers(num_columns)] = np.inf
    results = {name: with_set(kernels, name, weight, x) for name in kernels.instruction_sets}
    assert [name for name in results if results[name] != results[PORTABLE]] == []


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("num_x", [2, 3, 8, 13, 64, 67, 131])
def test_a_row_comes_out_the_same_whatever_rows_are_beside_it(
    kernels: Kernels, num_x: int, bits: int
) -> None:
    rng = np.random.default_rng(num_x)
    weight = random_weight(rng, 37, 200, bits, 64)
    x = random_rows(rng, num_x, 200)
    for name in kernels.instruction_sets:
        alone = b"".join(with_set(kernels, name, weight, row[None]) for row in x)
        assert with_set(kernels, name, weight, x) == alone


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("num_x", [3, 20])
def test_what_is_no_number_stays_in_its_row(kernels: Kernels, num_x: int, bad: float) -> None:
    rng = np.random.default_rng(0)
    weight = random_weight(rng, 20, 130, 4, 32)
    x = rng.standard_normal((num_x, 130)).astype(np.float32)
    x[1, 70] = bad
    for name in kernels.instruction_sets:
        kernels.select(name)
        y = weight.multiply(kernels, x)
        assert np.isnan(y[1]).all()
        assert np.isfinite(np.delete(y, 1, axis=0)).all()
    kernels.select(None)


def test_no_rows_give_no_rows(kernels: Kernels) -> None:
    weight = random_weight(np.random.default_rng(0), 20, 130, 4, 32)
    for name in kernels.instruction_sets:
        assert with_set(kernels, name, weight, np.zeros((0, 130), np.float32)) == b""


def test_a_block_of_tiny_numbers_counts_as_zero(kernels: Kernels) -> None:
    weight = random_weight(np.random.default_rng(0), 16, 64, 4, 32)
    x = np.full((1, 64), 2.0**-101, np.float32)
    for name in kernels.instruction_sets:
        assert not any(with_set(kernels, name, weight, x))
    x[0, 0] = 2.0**-99  # its block counts, the other one does not
    assert any(with_set(kernels, PORTABLE, weight, x))
