"""Attention of the newest S rows over all rows that a sequence has: no mask is given."""

import torch
from torch import Tensor

from export.operators.attend import attend_rows_first

__all__ = ["operator"]


def attend_newest(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, lengths_B: Tensor) -> Tensor:
    """Query s of sequence b sees the rows up to lengths[b] - S + s; the last sees all lengths[b].

    A sequence of length 0 is idle: nobody reads what comes of it.
    """
    seq_len, num_rows = q_BSHD.shape[1], k_BTGD.shape[1]
    last_BS = lengths_B[:, None] - seq_len + torch.arange(seq_len, device=lengths_B.device)
    rows_T = torch.arange(num_rows, device=lengths_B.device)
    return attend_rows_first(q_BSHD, k_BTGD, v_BTGD, rows_T > last_BS[:, None, :, None])


operator = torch.library.custom_op("alpaca2::attend_newest", attend_newest, mutates_args=())


@operator.register_fake
def _(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, lengths_B: Tensor) -> Tensor:
    batch, seq_len, num_heads, head_dim = q_BSHD.shape
    return q_BSHD.new_empty(batch, seq_len, num_heads * head_dim)
