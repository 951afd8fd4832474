"""GPTQ beside its dense textbook form, and beside rounding to nearest."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest

from toolchain.targets.cpu.blocks import dequantize_blocks, fit_scales, quantize_blocks
from toolchain.targets.cpu.gptq import Factor, damping, factorise, quantize_rows

NUM_ROWS, NUM_COLUMNS = 24, 150  # the last block is not full


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


def inputs(seed: int, num_tokens: int = 400) -> np.ndarray:
    """Rows whose columns depend on each other and differ in size, as those of layers do."""
    mixing = np.random.default_rng(0).normal(size=(40, NUM_COLUMNS))
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(num_tokens, 40)) @ mixing
    sizes = np.random.default_rng(1).permutation(np.geomspace(0.1, 10, NUM_COLUMNS))
    rows: np.ndarray = ((common + rng.normal(size=common.shape)) * sizes).astype(np.float32)
    return rows


def weight(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(NUM_ROWS, NUM_COLUMNS)).astype(np.float32)


def factor_of(rows: np.ndarray, block_size: int, threads: Executor) -> Factor:
    return factorise(np.triu(rows.T @ rows), len(rows), block_size, threads)


def textbook(w: np.ndarray, rows: np.ndarray, bits: int, block_size: int) -> np.ndarray:
    """Algorithm 1 of the paper in float64, with H inverted; the scales of a block as ours."""
    hessian = rows.astype(np.float64).T @ rows
    hessian += damping(*rows.shape) * np.diagonal(hessian).mean() * np.eye(len(hessian))
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    left, rounded = w.astype(np.float64), np.zeros(w.shape)
    lowest = -(2 ** (bits - 1))
    for k in range(w.shape[1]):
        if k % block_size == 0:
            block = slice(k, k + block_size)
            importance = (1 / np.diagonal(upper)[block] ** 2).astype(np.float32)
            scales = fit_scales(left[:, block].T.astype(np.float32), importance, bits)
        levels = np.clip(np.rint(left[:, k] / scales), lowest, -lowest - 1)
        rounded[:, k] = levels * scales
        error = (left[:, k] - rounded[:, k]) / upper[k, k]
        left[:, k + 1 :] -= np.outer(error, upper[k, k + 1 :])
    return rounded


@pytest.mark.parametrize(("bits", "block_size"), [(4, 32), (4, 64), (4, 128), (8, 32)])
def test_it_is_the_textbooks(bits: int, block_size: int, threads: Executor) -> None:
    w, rows = weight(1), inputs(2)
    packed, scales = quantize_rows(w, factor_of(rows, block_size, threads), bits)
    found = dequantize_blocks(packed, scales, bits)[:, :NUM_COLUMNS]
    expected = textbook(w, rows, bits, block_size)
    # Float32 rounds a value that lies between two levels to the other one now and then.
    assert np.isclose(found, expected, atol=1e-5).mean() > 0.99
    assert output_error(w, found, rows) == pytest.approx(output_error(w, expected, rows), rel=0.01)


def output_error(w: np.ndarray, rounded: np.ndarray, rows: np.ndarray) -> float:
    """Relative error of what the layer makes of the rows."""
    return float(np.linalg.norm(rows @ (w - rounded).T) / np.linalg.norm(rows @ w.T))


@pytest.mark.parametrize("block_size", [32, 128])
def test_the_output_for_other_rows_is_closer_than_with_rounding_to_nearest(
    block_size: int, threads: Executor
) -> None:
    w, other = weight(1), inputs(3)
    factor = factor_of(inputs(2), block_size, threads)
    calibrated, nearest = (
        dequantize_blocks(*quantized, 4)[:, :NUM_COLUMNS]
        for quantized in (quantize_rows(w, factor, 4), quantize_blocks(w, 4, block_size))
    )
    assert output_error(w, calibrated, other) < 0.8 * output_error(w, nearest, other)


def test_the_bytes_do_not_depend_on_the_number_of_threads() -> None:
    rows = np.random.default_rng(4).normal(size=(64, 1100)).astype(np.float32)
    w = np.random.default_rng(5).normal(size=(8, 1100)).astype(np.float32)
    found = set()
    for num_threads in (1, 2, 5):
        with ThreadPoolExecutor(num_threads) as threads:
            levels, scales = quantize_rows(w, factor_of(rows, 128, threads), 4)
            found.add((levels.tobytes(), scales.tobytes()))
    assert len(found) == 1


def test_an_input_that_is_always_zero_leaves_its_columns_as_they_are(threads: Executor) -> None:
    w, silent = weight(1), np.zeros((10, NUM_COLUMNS), np.float32)
    packed, scales = quantize_rows(w, factor_of(silent, 32, threads), 4)
    error = w - dequantize_blocks(packed, scales, 4)[:, :NUM_COLUMNS]
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(w)
