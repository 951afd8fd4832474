"""GPTQ: a weight is rounded column by column, and later columns make up for earlier errors.

What matters of a weight's rounding error E is what it does to the rows X that the weight is given:
|X E^T|^2, the sum of E H E^T with H = X^T X. With H = M M^T, M upper triangular, it is |E M|^2, and
column k of E M depends on the columns of E up to k alone. So each column is rounded to the level
nearest to the value that makes its part zero:

    w_k + sum over j < k of e_j M_jk / M_kk,     e_j = w_j - level_j * scale

That gives the levels of GPTQ (Frantar et al. 2022, arXiv 2210.17323) without an inverse of H, which
is of full rank only by the damping; see Chen et al. 2025, arXiv 2507.18553. Knows arrays only.
"""

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolchain.targets.cpu.blocks import fit_scales, pack_levels, round_to_levels
from toolchain.targets.cpu.product import Matrix, product, tall_product

__all__ = ["Factor", "damping", "factorise", "quantize_rows"]

# What is added to the diagonal of H, as part of its mean. The fewer rows for each column, the less
# they say of how columns depend on each other; 0.01 is what GPTQ adds with very many rows.
LEAST_DAMPING, DAMPING_BY_COLUMNS = 0.01, 0.1
PANEL = 64  # columns of M that are made together


@dataclass(frozen=True, slots=True)
class Factor:
    """H = M M^T taken apart.

    shares: (K, K), M_jk / M_kk for j < k; nothing else of it counts.
    importance: (K,), M_kk^2: what an error of column k costs when later ones make up for it.
    block_size: columns that share a scale.
    inverses: of the shares within each block, (block, block) each.
    """

    shares: Matrix
    importance: NDArray[np.float32]
    block_size: int
    inverses: list[Matrix]


def damping(num_rows: int, num_columns: int) -> float:
    """How much of the mean of H's diagonal is added to it."""
    return max(LEAST_DAMPING, DAMPING_BY_COLUMNS * num_columns / num_rows)


def factorise(moments: Matrix, num_rows: int, block_size: int, threads: Executor) -> Factor:
    """Takes second moments apart, in their own memory.

    Args:
        moments: X^T X, (K, K), on and above the diagonal; is overwritten.
        num_rows: of X.
        block_size: columns that share a scale.
        threads: to compute with; the result does not depend on their number.
    """
    diagonal = np.einsum("ii->i", moments)
    diagonal += damping(num_rows, len(moments)) * diagonal.mean() if diagonal.any() else 1
    lower = moments[::-1, ::-1]  # M, backwards in both directions, is Cholesky's lower factor
    for start in range(0, len(lower), PANEL):
        stop = min(start + PANEL, len(lower))
        panel = np.ascontiguousarray(lower[start:, start:stop])
        if start:
            panel -= tall_product(lower[start:, :start], lower[start:stop, :start], threads)
        _factorise_panel(panel)
        lower[start:, start:stop] = panel
    roots = diagonal.copy()
    moments /= roots
    inverses = [
        _inverse(moments[start : start + block_size, start : start + block_size])
        for start in range(0, len(moments), block_size)
    ]
    return Factor(moments, np.square(roots), block_size, inverses)


def _factorise_panel(panel: Matrix) -> None:
    """Cholesky's factor of the square on top, and what lies below it, column by column."""
    num_columns = panel.shape[1]
    for k in range(num_columns):
        panel[k:, k] /= np.sqrt(panel[k, k])
        panel[k:, k + 1 :] -= np.outer(panel[k:, k], panel[k + 1 : num_columns, k])


def _inverse(shares: Matrix) -> Matrix:
    """Of a triangle with ones on its diagonal."""
    inverse: Matrix = np.eye(len(shares), dtype=np.float32)
    for k in range(1, len(shares)):
        inverse[:k, k] = -(inverse[:k, :k] * shares[:k, k]).sum(1)
    return inverse


def quantize_rows(
    weight: NDArray[np.generic], factor: Factor, bits: int
) -> tuple[NDArray[np.uint8], Matrix]:
    """Some rows of a weight; takes and gives what quantize_blocks does.

    The scales of a block are chosen when its first column is reached: for the values that would be
    best then if they need not be rounded.
    """
    columns = weight.T.astype(np.float32)  # (K, N): a column of the weight is a row here
    num_rows, num_blocks = len(weight), len(factor.inverses)
    errors = np.empty_like(columns)
    levels = np.zeros((num_blocks * factor.block_size, num_rows), np.float32)
    scales = np.empty((num_blocks, num_rows), np.float32)
    for block, inverse in enumerate(factor.inverses):
        start = block * factor.block_size
        stop = start + len(inverse)
        best = columns[start:stop].copy()
        if start:
            known = product(factor.shares[:start, start:stop], errors[:start], transpose_a=True)
            best += product(inverse, known, transpose_a=True)
        scales[block] = fit_scales(best, factor.importance[start:stop], bits)
        for k, value in enumerate(best):
            levels[start + k] = round_to_levels(value, scales[block], bits)
            rounded = levels[start + k] * scales[block]
            errors[start + k] = columns[start + k] - rounded
            best[k + 1 :] -= np.outer(inverse[k, k + 1 :], value - rounded)
    return pack_levels(levels.T, bits, factor.block_size), np.ascontiguousarray(scales.T)
