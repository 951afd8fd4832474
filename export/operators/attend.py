"""Attention of S new rows over T rows; shape suffixes as in export/layers.py."""

import torch
from torch import Tensor

__all__ = [
    "attend_causally",
    "attend_fused",
    "attend_heads_first",
    "attend_rows_first",
    "operator",
]

MASKED = torch.finfo(torch.float32).min


def attend_heads_first(q_BHSD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, mask_B1ST: Tensor) -> Tensor:
    """Attention over keys and values that lie head by head.

    Args:
        q_BHSD: queries; H is a multiple of G.
        k_BGTD: keys.
        v_BGTD: values.
        mask_B1ST: float32, added to the scores.

    Returns:
        (B, S, H * D).
    """
    batch, num_heads, seq_len, head_dim = q_BHSD.shape
    num_kv_heads = k_BGTD.shape[1]
    grouped = (batch, num_kv_heads, -1, head_dim)  # the R heads of a group as rows
    # Scaled in float32: in float16 the factor itself would be off by up to 5e-4.
    scores = q_BHSD.reshape(grouped) @ k_BGTD.transpose(2, 3)  # (B, G, R * S, T)
    scores = scores.float() * head_dim**-0.5
    scores_BHST = scores.reshape(batch, num_heads, seq_len, -1) + mask_B1ST
    weights_BHST = scores_BHST.softmax(-1).to(v_BGTD.dtype)
    weights = weights_BHST.reshape(batch, num_kv_heads, -1, k_BGTD.shape[2])
    out_BHSD = (weights @ v_BGTD).reshape(batch, num_heads, seq_len, head_dim)
    merged: Tensor = out_BHSD.transpose(1, 2).reshape(batch, seq_len, -1)
    return merged


def attend_rows_first(
    q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, hidden_B1ST: Tensor
) -> Tensor:
    """The same over keys and values that lie row by row; what is hidden is true in the mask."""
    mask_B1ST = hidden_B1ST.float() * MASKED
    q_BHSD, k_BGTD, v_BGTD = (x.transpose(1, 2) for x in (q_BSHD, k_BTGD, v_BTGD))
    return attend_heads_first(q_BHSD, k_BGTD, v_BGTD, mask_B1ST)


def attend_fused(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, hidden_B1ST: Tensor) -> Tensor:
    """The same by a kernel that never writes the scores."""
    q_BHSD, k_BGTD, v_BGTD = (x.transpose(1, 2) for x in (q_BSHD, k_BTGD, v_BTGD))
    out_BHSD = torch.nn.functional.scaled_dot_product_attention(
        q_BHSD, k_BGTD, v_BGTD, attn_mask=~hidden_B1ST, enable_gqa=True
    )
    return out_BHSD.transpose(1, 2).flatten(2)


def attend_causally(q_BSHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, _: Tensor) -> Tensor:
    """The same where there are no other rows: flash attention, which on CUDA takes no mask."""
    q_BHSD, k_BGSD, v_BGSD = (x.transpose(1, 2) for x in (q_BSHD, k_BSGD, v_BSGD))
    out_BHSD = torch.nn.functional.scaled_dot_product_attention(
        q_BHSD, k_BGSD, v_BGSD, is_causal=True, enable_gqa=True
    )
    return out_BHSD.transpose(1, 2).flatten(2)


operator = torch.library.custom_op("alpaca2::attend", attend_rows_first, mutates_args=())


@operator.register_fake
def _(q_BSHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, hidden_B1ST: Tensor) -> Tensor:
    batch, seq_len, num_heads, head_dim = q_BSHD.shape
    return q_BSHD.new_empty(batch, seq_len, num_heads * head_dim)
