"""How the layers are written: where an ONNX graph and a torch program of them differ, as data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from export.operators import attend, rms_norm, rotate, swiglu, write_rows

__all__ = ["INLINE", "OPERATORS", "PORTABLE", "Form"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What each operator becomes, and how queries, keys and values lie.

    heads_axis: 1 for (B, heads, rows, D), 2 for (B, rows, heads, D).
    attend: takes the mask that is added to the scores, or the one that is true where it hides.
    write_rows: of a cache that is written in place.
    """

    heads_axis: Literal[1, 2]
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    rotate: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    swiglu: Callable[[Tensor, Tensor], Tensor]
    write_rows: Callable[[Tensor, Tensor, Tensor], None]


# Plain arithmetic on the layout of Hugging Face: ONNX, training and the reference.
PORTABLE = Form(
    heads_axis=1,
    rms_norm=rms_norm.rms_norm,
    rotate=rotate.rotate,
    attend=attend.attend_heads_first,
    swiglu=swiglu.swiglu,
    write_rows=write_rows.write_rows,
)
# Programs for a compiler that fuses arithmetic: a cached row lies in one piece.
INLINE = Form(
    heads_axis=2,
    rms_norm=rms_norm.rms_norm,
    rotate=rotate.rotate,
    attend=attend.attend_rows_first,
    swiglu=swiglu.swiglu,
    write_rows=write_rows.write_rows,
)
# Programs for a chip's own kernels: each operator is one node.
OPERATORS = Form(
    heads_axis=2,
    rms_norm=rms_norm.operator,
    rotate=rotate.operator,
    attend=attend.operator,
    swiglu=swiglu.operator,
    write_rows=write_rows.operator,
)
