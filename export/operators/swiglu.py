"""The gate of a SwiGLU feed-forward (arXiv:2002.05202)."""

import torch
from torch import Tensor

__all__ = ["joined", "operator", "swiglu"]


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    return torch.nn.functional.silu(gate) * up


def swiglu_joined(gate_up: Tensor) -> Tensor:
    """The same where one product gave both, gate first."""
    gate, up = gate_up.chunk(2, dim=-1)
    return swiglu(gate, up)


operator = torch.library.custom_op("alpaca2::swiglu", swiglu, mutates_args=())
joined = torch.library.custom_op("alpaca2::swiglu_joined", swiglu_joined, mutates_args=())


@operator.register_fake
def _(gate: Tensor, up: Tensor) -> Tensor:
    return gate.new_empty(gate.shape)


@joined.register_fake
def _(gate_up: Tensor) -> Tensor:
    return gate_up.new_empty(*gate_up.shape[:-1], gate_up.shape[-1] // 2)
