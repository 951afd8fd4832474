"""Bytes of the weights of torch programs, in the types and layouts that numpy lacks."""

import numpy as np
import torch
from numpy.typing import NDArray

from export.int4_layouts import INT4_LAYOUTS, inner_tiles

__all__ = ["floats", "int4_levels", "int4_scales"]


def floats(values: NDArray[np.generic], dtype: str) -> memoryview:
    """Values in another floating type, rounded to nearest."""
    return _bytes(torch.from_numpy(np.array(values)).to(getattr(torch, dtype)))


def int4_levels(levels: NDArray[np.uint8], device: str) -> memoryview:
    """Levels 0 to 15, (N, K) with N a multiple of 16, as the product of a device takes them.

    Rows of whole multiples of 64 can be packed one after the other.
    """
    layout = INT4_LAYOUTS[device]
    wide = torch.from_numpy(levels).to(device)
    given = (wide[:, ::2] << 4 | wide[:, 1::2]) if layout.pairs else wide.int()
    pack = getattr(torch.ops.aten, layout.pack)
    return _bytes(pack(given.contiguous(), inner_tiles(levels.shape[1])).cpu())


def int4_scales(scales: NDArray[np.float32], dtype: str) -> memoryview:
    """Scales (N, G) as (G, N, 2), each with what level 8 stands for: 0."""
    turned = np.ascontiguousarray(scales.T)
    return floats(np.stack([turned, np.zeros_like(turned)], axis=-1), dtype)


def _bytes(tensor: torch.Tensor) -> memoryview:
    flat: NDArray[np.uint8] = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return flat.data
