"""Linear layers over levels and scales, in the place of the decoder's own.

int8 is arithmetic that Inductor fuses: at one row the product becomes a sum that reads the levels
themselves. int4 is torch's own kernel for the device.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from export.int4_layouts import INT4_LAYOUTS
from export.program_weights import ProgramWeight

__all__ = ["Int4Linear", "Int8Linear", "replace_linears"]


class _Quantised(nn.Module, ABC):
    """Levels and scales, and a bias where the layer has one."""

    levels: Tensor
    scales: Tensor
    bias: nn.Parameter | None

    def __init__(self, levels: Tensor, scales: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.register_buffer("levels", levels)
        self.register_buffer("scales", scales)
        self.register_parameter("bias", bias)

    @abstractmethod
    def product(self, x_BSK: Tensor) -> Tensor:
        """Returns (B, S, N)."""

    def forward(self, x_BSK: Tensor) -> Tensor:
        out_BSN = self.product(x_BSK)
        return out_BSN if self.bias is None else out_BSN + self.bias


class Int8Linear(_Quantised):
    """The product with levels (N, K) times scales (N, K / group)."""

    def product(self, x_BSK: Tensor) -> Tensor:
        """Returns (B, S, N)."""
        num_groups = self.scales.shape[1]
        grouped = self.levels.to(x_BSK.dtype).reshape(len(self.levels), num_groups, -1)
        return nn.functional.linear(x_BSK, (grouped * self.scales[:, :, None]).flatten(1))


class Int4Linear(_Quantised):
    """The product with packed levels and (K / group, N, 2): scales, and zeros that are none."""

    def __init__(
        self,
        levels: Tensor,
        scales: Tensor,
        bias: nn.Parameter | None,
        group_size: int,
        device: str,
    ) -> None:
        super().__init__(levels, scales, bias)
        self.group_size = group_size
        self.kernel = getattr(torch.ops.aten, INT4_LAYOUTS[device].product)

    def product(self, x_BSK: Tensor) -> Tensor:
        """Returns (B, S, N)."""
        x_MK = x_BSK.flatten(0, 1)
        out_MN: Tensor = self.kernel(x_MK, self.levels, self.group_size, self.scales)
        return out_MN.reshape(*x_BSK.shape[:2], -1)


def replace_linears(decoder: nn.Module, weights: Sequence[ProgramWeight], device: str) -> None:
    """Puts a quantised layer where a weight is quantised; its buffers are the weight's files."""
    for weight in weights:
        if weight.bits:
            levels, scales = (
                torch.empty(spec.shape, dtype=getattr(torch, spec.dtype), device="meta")
                for spec in weight.files
            )
            bias = dict(decoder.get_submodule(weight.module).named_parameters()).get("bias")
            made = (
                Int4Linear(levels, scales, bias, weight.group_size, device)
                if weight.bits == 4
                else Int8Linear(levels, scales, bias)
            )
            parent, _, name = weight.module.rpartition(".")
            setattr(decoder.get_submodule(parent), name, made)
