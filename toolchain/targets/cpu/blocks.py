"""Weights in blocks of levels that share a scale, by rounding to nearest. Knows arrays only."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["dequantize_blocks", "fit_scales", "pack_levels", "quantize_blocks", "round_to_levels"]

# How far beyond the lowest level int4 may put the largest entry, to be cut off there; less than
# 1.5 levels, so that no level falls under 0.
CUT_OFF = 1.12
CUT_OFFS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.04, 1.08, 1.12, 1.16, 1.2)  # that fit_scales tries


def quantize_blocks(
    weight: NDArray[np.generic], bits: int, block_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Symmetric round-to-nearest quantisation in blocks along the input dimension.

    The entry of largest magnitude is put on level -2^(bits-1), as in ggml's Q4_0, or in int4 cut
    off a little beyond it where that is closer in the mean square; the scale is then the one that
    is closest for the levels found.

    Args:
        weight: (N, K), output rows and input columns.
        bits: 4 or 8.
        block_size: input columns that share a scale; K is padded with zeros to a multiple.

    Returns:
        Packed levels, uint8 (N, K / block_size, block_size * bits / 8), lower nibble first, with
        zero point 2^(bits-1); and scales, float32 (N, K / block_size).
    """
    num_rows, num_columns = weight.shape
    padded = np.pad(weight.astype(np.float32), ((0, 0), (0, -num_columns % block_size)))
    blocks = padded.reshape(-1, block_size)
    columns = np.ascontiguousarray(blocks.T)  # numpy reduces long rows several times faster
    highest, lowest = columns.max(0), columns.min(0)
    largest = np.where(highest > -lowest, highest, lowest)
    levels, scales, gain = _fit(blocks, largest, bits, 1.0)
    if bits == 4:
        cut_levels, cut_scales, cut_gain = _fit(blocks, largest, bits, CUT_OFF)
        better = cut_gain > gain
        levels = np.where(better[:, None], cut_levels, levels)
        scales = np.where(better, cut_scales, scales)
    packed = _packed(levels, bits)
    return packed.reshape(num_rows, -1, block_size * bits // 8), scales.reshape(num_rows, -1)


def _fit(
    blocks: NDArray[np.float32], largest: NDArray[np.float32], bits: int, cut_off: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Levels where the largest entry lies at cut_off times the lowest level.

    Returns:
        Levels, uint8 (blocks, block_size); the scale of least squares sum(xq) / sum(qq); and the
        part of sum(xx) that it explains, sum(xq)^2 / sum(qq).
    """
    zero_point = 1 << (bits - 1)
    inverse = np.divide(
        -zero_point * cut_off, largest, out=np.zeros_like(largest), where=largest != 0
    )
    # Cutting the fraction off rounds to nearest; what is below zero by less than one becomes 0.
    shifted = blocks * inverse[:, None] + np.float32(zero_point + 0.5)
    levels = np.minimum(shifted, 2 * zero_point - 1, out=shifted).astype(np.uint8)
    centred = np.subtract(levels, np.float32(zero_point), out=shifted)
    products = np.einsum("ij,ij->i", blocks, centred)
    squares = np.einsum("ij,ij->i", centred, centred)
    scales = np.divide(products, squares, out=np.zeros_like(products), where=squares != 0)
    return levels, scales, products * scales


def _packed(levels: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Two levels of int4 in a byte, the lower nibble first."""
    if bits == 8:
        return levels
    pairs = np.ascontiguousarray(levels).view("<u2")
    packed: NDArray[np.uint8] = (pairs | pairs >> np.uint16(4)).astype(np.uint8)
    return packed


def pack_levels(levels: NDArray[np.float32], bits: int, block_size: int) -> NDArray[np.uint8]:
    """Levels around zero, (N, K) with whole blocks, packed as quantize_blocks does it."""
    packed = _packed((levels + (1 << (bits - 1))).astype(np.uint8), bits)
    return packed.reshape(len(levels), -1, block_size * bits // 8)


def round_to_levels(
    values: NDArray[np.float32], scales: NDArray[np.float32], bits: int
) -> NDArray[np.float32]:
    """The levels nearest to values, of one scale a column: whole numbers around zero."""
    lowest = -(1 << (bits - 1))
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
    levels: NDArray[np.float32] = np.clip(np.rint(values * inverse), lowest, -lowest - 1)
    return levels


def fit_scales(
    values: NDArray[np.float32], importance: NDArray[np.float32], bits: int
) -> NDArray[np.float32]:
    """The scale of each column that is closest in the weighted mean square, among CUT_OFFS.

    Args:
        values: (block, N).
        importance: (block,), of each row.
        bits: 4 or 8.

    Returns:
        float32 (N,), of numbers that are exact in float16, as our own kernels take them.
    """
    weights = importance[:, None]
    highest, lowest = values.max(0), values.min(0)
    largest = np.where(highest > -lowest, highest, lowest)
    least = np.full_like(largest, np.inf)
    best: NDArray[np.float32] = np.zeros_like(largest)
    for cut_off in CUT_OFFS:
        levels = round_to_levels(values, largest / np.float32(-(1 << (bits - 1)) * cut_off), bits)
        products = (weights * values * levels).sum(0)
        squares = (weights * levels * levels).sum(0)
        ratio = np.divide(products, squares, out=np.zeros_like(products), where=squares != 0)
        scales = ratio.astype(np.float16).astype(np.float32)
        error = (weights * np.square(values - levels * scales)).sum(0)
        best = np.where(error < least, scales, best)
        least = np.minimum(error, least)
    return best


def dequantize_blocks(
    packed: NDArray[np.uint8], scales: NDArray[np.float32], bits: int
) -> NDArray[np.float32]:
    """The weights that the packed form stands for, float32 (N, K padded)."""
    levels = packed
    if bits == 4:
        levels = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
    centred = levels.astype(np.float32) - (1 << (bits - 1))
    return (centred * scales[..., None]).reshape(len(packed), -1)
