"""Random quantized weights, laid out entry by entry as native/product.h says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.library import Kernels

TILE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """W (N, K) with one scale for each row and block, and the same as it lies in tiles."""

    bits: int
    block_size: int
    centred: NDArray[np.float64]  # (N, K): level - zero point
    block_scales: NDArray[np.float16]  # (N, blocks)
    levels: NDArray[np.uint8]
    scales: NDArray[np.float16]  # (tiles, blocks, 16)

    @property
    def values(self) -> NDArray[np.float64]:
        """What the weight stands for."""
        scales = np.repeat(self.block_scales.astype(np.float64), self.block_size, axis=1)
        return self.centred * scales[:, : self.centred.shape[1]]

    def multiply(self, kernels: Kernels, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return kernels.multiply(
            x,
            self.levels,
            self.scales,
            len(self.centred),
            bits=self.bits,
            block_size=self.block_size,
        )


def random_weight(
    rng: np.random.Generator, num_rows: int, num_columns: int, bits: int, block_size: int
) -> Weight:
    zero = 1 << (bits - 1)
    levels = rng.integers(0, 2 * zero, (num_rows, num_columns))
    levels[rng.random(num_rows) < 0.2] = rng.choice([0, 2 * zero - 1])  # the largest sums
    num_blocks, num_tiles = -(-num_columns // block_size), -(-num_rows // TILE)
    block_scales = rng.uniform(-1, 1, (num_rows, num_blocks)).astype(np.float16)
    block_scales[rng.random(block_scales.shape) < 0.1] = np.float16(6e-8)  # denormal
    blob = np.full((num_tiles * num_blocks, block_size * TILE * bits // 8), zero * 17 & 255)
    scales = np.zeros((num_tiles, num_blocks, TILE), np.float16)
    for row in range(num_rows):
        tile, lane = divmod(row, TILE)
        scales[tile, :, lane] = block_scales[row]
        for column in range(num_columns):
            block, inside = divmod(column, block_size)
            into = blob[tile * num_blocks + block]
            level = levels[row, column]
            if bits == 8:
                into[(inside // 4 * TILE + lane) * 4 + inside % 4] = level
            else:
                byte = (inside // 8 * TILE + lane) * 4 + inside % 4
                shift = 4 * (inside % 8 // 4)
                into[byte] = int(into[byte]) & (0xF0 >> shift) | int(level) << shift
    return Weight(
        bits=bits,
        block_size=block_size,
        centred=levels.astype(np.float64) - zero,
        block_scales=block_scales,
        levels=blob.astype(np.uint8),
        scales=scales,
    )


def quantized(x: NDArray[np.float32], block_size: int) -> NDArray[np.float64]:
    """Rows as int8 levels times a scale for each block: what the product is exact for."""
    result = np.zeros(x.shape)
    for start in range(0, x.shape[1], block_size):
        block = x[:, start : start + block_size].astype(np.float64)
        largest = np.abs(block).max(axis=1, keepdims=True)
        with np.errstate(all="ignore"):
            levels = np.rint(block * (127 / largest))
        levels[(largest < 2.0**-100)[:, 0]] = 0
        result[:, start : start + block_size] = levels * largest / 127
    return result
