"""The mask that graphs with written-out attention take."""

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.manifest import GraphSpec

__all__ = ["MASKED", "attention_mask"]

MASKED = -65504.0  # the lowest finite float16, so that a cast of the mask stays finite


def attention_mask(spec: GraphSpec, starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Additive mask, float32 (B, 1, S, C + S): valid cached rows, then causal new rows."""
    mask = np.full((spec.batch_size, 1, spec.seq_len, spec.cache_len + spec.seq_len), MASKED)
    for row, start in enumerate(starts):
        mask[row, 0, :, :start] = 0.0
    mask[:, 0, :, spec.cache_len :] = np.triu(np.full((spec.seq_len, spec.seq_len), MASKED), k=1)
    return mask.astype(np.float32)
