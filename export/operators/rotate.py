"""Rotary position embedding of queries and keys (arXiv:2104.09864)."""

import torch
from torch import Tensor

__all__ = ["operator", "rotate"]


def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotates the pairs (i, i + D / 2), the pairing of Hugging Face's Llama weights.

    Args:
        q: (B, H, S, D) or (B, S, H, D).
        k: the same with G heads.
        cos: of the angles, float32 (B, 1, S, D / 2) or (B, S, 1, D / 2).
        sin: the same.
    """
    return _rotated(q, cos, sin), _rotated(k, cos, sin)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


operator = torch.library.custom_op("alpaca2::rotate", rotate, mutates_args=())


@operator.register_fake
def _(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)
