"""Transformers' model with the linear weights that int8 or int4 makes of them, as numbers."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from profiles import load_profile
from profiles.recipe import layer_kind
from toolchain.choices import Choices
from toolchain.targets.cpu.blocks import dequantize_blocks, quantize_blocks

__all__ = ["Rounding", "on_chip", "on_cpu", "rounded_model"]

# The name of a linear layer and its weight (N, K) -> the weight that is computed with.
Rounding = Callable[[str, Tensor], Tensor]


def on_chip(name: str, weight: Tensor) -> Tensor:
    """One scale in float16 for each output, 127 levels to either side; the product is float16."""
    scale = (weight.float().abs().amax(1, keepdim=True) / 127).half().float()
    levels = (weight.float() / scale).round().clamp(-127, 127)
    return (levels * scale).half()


def on_cpu(weights: str) -> Rounding:
    """As finely as each kind of layer is quantised of what was exported for a 310P3."""
    profile = Choices(target="cpu", weights=weights).apply(load_profile("310p3"))

    def rounded(name: str, weight: Tensor) -> Tensor:
        bits, block_size = profile.fineness(layer_kind(name))
        levels, scales = quantize_blocks(weight.numpy(), bits, block_size)
        found: NDArray[np.float32] = dequantize_blocks(levels, scales, bits)
        return torch.from_numpy(found[:, : weight.shape[1]])

    return rounded


def rounded_model(model: PreTrainedModel, rounding: Rounding) -> PreTrainedModel:
    """A copy with rounded linear layers; a tied head is rounded, and the embedding is not."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name, module in copied.named_modules():
            if isinstance(module, nn.Linear):
                module.weight = nn.Parameter(rounding(name, module.weight.detach()).float())
    return copied
