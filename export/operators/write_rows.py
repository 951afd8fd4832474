"""Writes new rows into the cache, in place."""

import torch
from torch import Tensor

__all__ = ["operator", "write_rows"]


def write_rows(cache_BTGD: Tensor, rows_BSGD: Tensor, start_B: Tensor) -> None:
    """Row s of sequence b becomes row start[b] + s of its cache, which must have room for it."""
    batch, seq_len = rows_BSGD.shape[:2]
    positions_BS = start_B[:, None] + torch.arange(seq_len, device=start_B.device)
    sequence_B1 = torch.arange(batch, device=start_B.device)[:, None]
    cache_BTGD.index_put_((sequence_B1, positions_BS), rows_BSGD)


operator = torch.library.custom_op("alpaca2::write_rows", write_rows, mutates_args=("cache_BTGD",))


@operator.register_fake
def _(cache_BTGD: Tensor, rows_BSGD: Tensor, start_B: Tensor) -> None:
    return None
