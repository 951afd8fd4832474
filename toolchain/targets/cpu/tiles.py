"""The layout of weights that our own kernels read: tiles of 16 output rows."""

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.layout import TILE_ROWS

__all__ = ["tiled"]


def tiled(
    packed: NDArray[np.uint8], scales: NDArray[np.float32], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Quantised rows as runtime/kernels/native/product.h lays them out.

    Args:
        packed: levels as quantize_blocks packs them, (N, blocks, block_size * bits / 8).
        scales: (N, blocks).
        bits: 4 or 8.

    Returns:
        Levels, uint8 (tiles, blocks, TILE_ROWS * block_size * bits / 8), and scales, float16
        (tiles, blocks, TILE_ROWS). What fills the last tile has scale 0.
    """
    num_rows, num_blocks, width = packed.shape
    missing = -num_rows % TILE_ROWS
    rows = np.pad(packed, ((0, missing), (0, 0), (0, 0)))
    if bits == 4:
        # 8 columns are 4 bytes: columns 0 1, 2 3, 4 5, 6 7 become 0 4, 1 5, 2 6, 3 7.
        pairs = rows.reshape(*rows.shape[:2], width // 4, 2, 2)
        low, high = pairs & 15, pairs >> 4
        fours = np.stack([low, high], axis=-1).reshape(*rows.shape[:2], width // 4, 2, 4)
        rows = fours[..., 0, :] | fours[..., 1, :] << 4
    vectors = rows.reshape(-1, TILE_ROWS, num_blocks, width // 4, 4)
    levels = np.ascontiguousarray(vectors.transpose(0, 2, 3, 1, 4))
    padded = np.pad(scales.astype(np.float16), ((0, missing), (0, 0)))
    columns = padded.reshape(-1, TILE_ROWS, num_blocks).transpose(0, 2, 1)
    return levels.reshape(len(levels), num_blocks, -1), np.ascontiguousarray(columns)
