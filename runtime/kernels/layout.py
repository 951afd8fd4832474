"""What bundles and the library of kernels agree on; native/product.h draws the layout."""

from typing import Final

__all__ = ["BITS", "BLOCK_SIZES", "DOMAIN", "KERNELS_VERSION", "OPERATOR", "TILE_ROWS"]

KERNELS_VERSION: Final = 1  # of the layout of weights and of the library's functions
DOMAIN, OPERATOR = "alpaca2", "TiledMatMul"
TILE_ROWS = 16  # rows of a weight that lie together
BLOCK_SIZES = (32, 64, 128, 256)
BITS = (4, 8)
