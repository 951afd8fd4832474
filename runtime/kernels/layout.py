"""What bundles and the library of kernels agree on; native/product.h draws the layout."""

from typing import Final

__all__ = [
    "ATTENTION",
    "BITS",
    "BLOCK_SIZES",
    "DOMAIN",
    "KERNELS_VERSION",
    "MAX_HEAD_DIM",
    "OPERATOR",
    "TILE_ROWS",
]

KERNELS_VERSION: Final = 2  # of the library; a new layout of weights needs a lowest one too
DOMAIN = "alpaca2"
OPERATOR, ATTENTION = "TiledMatMul", "CachedAttention"
TILE_ROWS = 16  # rows of a weight that lie together
BLOCK_SIZES = (32, 64, 128, 256)
BITS = (4, 8)
MAX_HEAD_DIM = 256  # of CachedAttention
