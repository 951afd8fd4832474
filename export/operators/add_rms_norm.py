"""A sum and its RMSNorm: what a layer adds to the residual stream, and what the next one takes."""

import torch
from torch import Tensor

from export.operators.rms_norm import rms_norm

__all__ = ["operator"]


def add_rms_norm(
    x_BSE: Tensor, y_BSE: Tensor, weight_E: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Returns RMSNorm(x + y) and x + y."""
    added = x_BSE + y_BSE
    return rms_norm(added, weight_E, eps), added


operator = torch.library.custom_op("alpaca2::add_rms_norm", add_rms_norm, mutates_args=())


@operator.register_fake
def _(x_BSE: Tensor, y_BSE: Tensor, weight_E: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return x_BSE.new_empty(x_BSE.shape), x_BSE.new_empty(x_BSE.shape)
