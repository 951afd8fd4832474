"""Linear layers, with weights as they are or in int8; N outputs, K inputs."""

import torch
from torch import Tensor

__all__ = ["operator", "quantised"]


def linear(x_BSK: Tensor, weight_NK: Tensor) -> Tensor:
    """The product with the transposed weight."""
    return torch.nn.functional.linear(x_BSK, weight_NK)


def linear_int8(x_BSK: Tensor, levels_NK: Tensor, scales: Tensor, group_size: int) -> Tensor:
    """The product with levels * scales (W8A16).

    Args:
        x_BSK: what is multiplied.
        levels_NK: int8.
        scales: (N,), or (N, ceil(K / group_size)).
        group_size: inputs that share a scale; 0: all of them.
    """
    spread = scales.reshape(len(levels_NK), -1)
    spread = spread.repeat_interleave(group_size or levels_NK.shape[1], dim=1)
    return linear(x_BSK, levels_NK.to(x_BSK.dtype) * spread[:, : levels_NK.shape[1]])


operator = torch.library.custom_op("alpaca2::linear", linear, mutates_args=())
quantised = torch.library.custom_op("alpaca2::linear_int8", linear_int8, mutates_args=())


@operator.register_fake
def _(x_BSK: Tensor, weight_NK: Tensor) -> Tensor:
    return x_BSK.new_empty(*x_BSK.shape[:-1], len(weight_NK))


@quantised.register_fake
def _(x_BSK: Tensor, levels_NK: Tensor, scales: Tensor, group_size: int) -> Tensor:
    return x_BSK.new_empty(*x_BSK.shape[:-1], len(levels_NK))
