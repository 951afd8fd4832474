"""How the layers are written: where an ONNX graph and a torch program of them differ, as data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from export.operators import attend, attend_newest, rms_norm, rotate, swiglu, write_rows
from runtime.bundle.manifest import GraphSpec

__all__ = ["CHIP", "FIRST", "FUSED", "INLINE", "OPERATORS", "PORTABLE", "Form", "program_form"]


def later_rows(positions_BS: Tensor, lengths_B: Tensor, num_rows: int) -> Tensor:
    """True for the rows that a query may not see, bool (B, 1, S, T)."""
    return torch.arange(num_rows) > positions_BS[:, None, :, None]


def only_lengths(positions_BS: Tensor, lengths_B: Tensor, num_rows: int) -> Tensor:
    """How many rows each sequence has, int64 (B,)."""
    return lengths_B


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What each operator becomes, and how queries, keys and values lie.

    heads_axis: 1 for (B, heads, rows, D), 2 for (B, rows, heads, D).
    attend: takes the mask that is added to the scores, or what `seen` gives.
    seen: of a program, what says which rows each query sees: from positions, lengths and T.
    write_rows: of a cache that is written in place.
    """

    heads_axis: Literal[1, 2]
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    rotate: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    seen: Callable[[Tensor, Tensor, int], Tensor]
    swiglu: Callable[[Tensor, Tensor], Tensor]
    write_rows: Callable[[Tensor, Tensor, Tensor], None]


# Plain arithmetic on the layout of Hugging Face: ONNX, training and the reference.
PORTABLE = Form(
    heads_axis=1,
    rms_norm=rms_norm.rms_norm,
    rotate=rotate.rotate,
    attend=attend.attend_heads_first,
    seen=later_rows,
    swiglu=swiglu.swiglu,
    write_rows=write_rows.write_rows,
)
# Programs for a compiler that fuses arithmetic: a cached row lies in one piece.
INLINE = Form(
    heads_axis=2,
    rms_norm=rms_norm.rms_norm,
    rotate=rotate.rotate,
    attend=attend.attend_rows_first,
    seen=later_rows,
    swiglu=swiglu.swiglu,
    write_rows=write_rows.write_rows,
)
# The same with attention as a kernel of torch's: many rows read the cache once.
FUSED = replace(INLINE, attend=attend.attend_fused)
# What starts a sequence: it attends to its own rows alone.
FIRST = replace(INLINE, attend=attend.attend_causally, seen=only_lengths)
# The same with each operator as one node.
OPERATORS = Form(
    heads_axis=2,
    rms_norm=rms_norm.operator,
    rotate=rotate.operator,
    attend=attend.operator,
    seen=later_rows,
    swiglu=swiglu.operator,
    write_rows=write_rows.operator,
)
# Programs for a chip's own kernels, whose attention takes lengths and no mask.
CHIP = replace(OPERATORS, attend=attend_newest.operator, seen=only_lengths)


def program_form(spec: GraphSpec) -> Form:
    """The form of a graph for torch's own compiler.

    One row attends by arithmetic: as a product of a vector that is spread over all cores, which no
    kernel of attention is.
    """
    if spec.cache_len == 0:
        return FIRST
    return INLINE if spec.phase == "decode" else FUSED
