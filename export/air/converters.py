"""Our operators -> operators of GE, one function each: the kernels of an Ascend 910B.

Sources: ops-nn and ops-transformer of hicann, in the documents and tilings beside each operator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

__all__ = ["register_converters"]

FLOAT16, INT64 = 1, 9  # ge::DataType
# ApplyRotaryPosEmb: heads of this size only, all heads of a row at once in the memory of a core.
HEAD_SIZE, CORE_BYTES, BYTES_PER_HEAD = 128, 192 * 1024, 1280
ROTATED_MULTIPLE = 64  # of the size of a head in RotaryMul
# FusedInferAttentionScore: a causal mask of this size, laid against the last row of each sequence.
MASK_SIZE, LAST_ROWS = 2048, 3
UNUSED = (  # inputs of attention that ours has not
    *("pse_shift", "block_table", "query_padding_size", "kv_padding_size", "learnable_sink"),
    *("dequant_scale1", "quant_scale1", "dequant_scale2", "quant_scale2", "quant_offset2"),
    *("antiquant_scale", "antiquant_offset", "key_antiquant_scale", "key_antiquant_offset"),
    *("value_antiquant_scale", "value_antiquant_offset", "key_rope_antiquant_scale"),
    *("key_shared_prefix", "value_shared_prefix", "actual_shared_prefix_len", "query_rope"),
    *("key_rope", "dequant_scale_query", "q_start_idx", "kv_start_idx"),
)

Tensor = Any  # of GE


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """What makes operators of GE, and what was made for all layers of a graph.

    ge: a function for each operator.
    graph: gives the graph that is being made.
    """

    ge: Any
    graph: Callable[[], Any]
    made: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of this name in this graph, made when it is first asked for."""
        key = (self.graph().name, name)
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        return self.ge.Reshape(x, self.ge.Const(list(shape), dtype=INT64))


def rms_norm(to: Builder, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return to.ge.RmsNorm(x, weight, epsilon=eps)[0]


def add_rms_norm(
    to: Builder, x: Tensor, y: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    normed, _, added = to.ge.AddRmsNorm(x, y, weight, epsilon=eps)
    return normed, added


def linear(to: Builder, x: Tensor, weight: Tensor) -> Tensor:
    """Matrices in and out; the weight stays (N, K) as it is stored."""
    *rows, num_inputs = x.symsize
    matrix = to.reshape(x, (-1, num_inputs))
    product = to.ge.MatMul(matrix, weight, None, transpose_x2=True)
    return to.reshape(product, (*rows, weight.symsize[0]))


def linear_int8(to: Builder, x: Tensor, levels: Tensor, scales: Tensor, group_size: int) -> Tensor:
    """The same with int8 weights and float16 scales (W8A16)."""
    *rows, num_inputs = x.symsize
    product = to.ge.WeightQuantBatchMatmulV2(
        to.reshape(x, (-1, num_inputs)),
        levels,
        scales,
        None,
        None,
        None,
        None,
        transpose_weight=True,
        antiquant_group_size=group_size,
    )
    return to.reshape(product, (*rows, levels.symsize[0]))


def swiglu_joined(to: Builder, gate_up: Tensor) -> Tensor:
    return to.ge.SwiGlu(gate_up, dim=-1)


def rotate(to: Builder, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of a head have the same angles; the kernels take them written out, in float16.

    ApplyRotaryPosEmb writes over q and k, which nobody else reads: they are cut for it. Heads of
    another size go through RotaryMul, and those that no kernel takes through plain arithmetic.
    """
    num_heads, size = q.symsize[2] + k.symsize[2], q.symsize[3]
    both = [to.once(f"{x.tensor} twice", partial(_twice, to, x)) for x in (cos, sin)]
    if size == HEAD_SIZE and (num_heads + 1) * BYTES_PER_HEAD <= CORE_BYTES:
        rotated: tuple[Tensor, Tensor] = to.ge.ApplyRotaryPosEmb(q, k, *both, layout=1)
        return rotated
    if size % ROTATED_MULTIPLE == 0:
        return to.ge.RotaryMul(q, *both), to.ge.RotaryMul(k, *both)
    return _rotated(to, q, cos, sin), _rotated(to, k, cos, sin)


def _twice(to: Builder, x: Tensor) -> Tensor:
    return _joined(to, [to.ge.Cast(x, dst_type=FLOAT16)] * 2)


def _joined(to: Builder, parts: Sequence[Tensor]) -> Tensor:
    return to.ge.ConcatV2(parts, to.ge.Const(3), N=len(parts))


def _rotated(to: Builder, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """X * (cos, cos) + (right half of x, left half) * (-sin, sin)."""
    size = x.symsize[3]
    other = [*range(size // 2, size), *range(size // 2)]
    swapped = to.ge.GatherV2(x, to.ge.Const(other, dtype=INT64), to.ge.Const(3))
    both = to.once(f"{cos.tensor} twice", partial(_twice, to, cos))
    signed = to.once(f"{sin.tensor} signed", partial(_signed, to, sin))
    return to.ge.Add(to.ge.Mul(x, both), to.ge.Mul(swapped, signed))


def _signed(to: Builder, sin: Tensor) -> Tensor:
    narrow = to.ge.Cast(sin, dst_type=FLOAT16)
    return _joined(to, [to.ge.Neg(narrow), narrow])


def write_rows(to: Builder, cache_BTGD: Tensor, rows_BSGD: Tensor, start_B: Tensor) -> Tensor:
    """In place. What is written and not read again, as in a last layer, is no reason to drop it.

    torchair gives the arguments of an operator that writes by their names.
    """
    written = to.ge.Scatter(cache_BTGD, start_B, rows_BSGD, reduce="update", axis=1)
    to.graph().dont_prune_me(written)
    return written


def attend_newest(to: Builder, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    """One query sees all rows of its length, so it takes no mask."""
    batch, seq_len, num_heads, head_dim = q.symsize
    mask = None if seq_len == 1 else to.once("mask", partial(_mask, to))
    attended, _ = to.ge.FusedInferAttentionScore(
        q,
        [k],
        [v],
        atten_mask=mask,
        actual_seq_lengths=None,
        actual_seq_lengths_kv=lengths,
        **dict.fromkeys(UNUSED),
        num_heads=num_heads,
        num_key_value_heads=k.symsize[2],
        scale=head_dim**-0.5,
        input_layout="BSND",
        sparse_mode=0 if mask is None else LAST_ROWS,
    )
    return to.reshape(attended, (batch, seq_len, num_heads * head_dim))


def _mask(to: Builder) -> Tensor:
    hidden = np.triu(np.ones((MASK_SIZE, MASK_SIZE), np.bool_), 1)
    return to.ge.Const(hidden, readable=False)


CONVERTERS: tuple[Callable[..., Any], ...] = (
    rms_norm,
    add_rms_norm,
    linear,
    linear_int8,
    swiglu_joined,
    rotate,
    write_rows,
    attend_newest,
)


def register_converters(torchair: Any) -> None:
    """Tells torchair what becomes of our operators."""
    from torchair._ge_concrete_graph import ge_apis  # type: ignore[import-not-found, unused-ignore]
    from torchair.ge._ge_graph import (  # type: ignore[import-not-found, unused-ignore]
        get_default_ge_graph,
    )

    to = Builder(ge=ge_apis, graph=get_default_ge_graph)
    for convert in CONVERTERS:
        ours = getattr(torch.ops.alpaca2, convert.__name__).default
        torchair.register_fx_node_ge_converter(ours)(_converter(to, convert))


def _converter(to: Builder, convert: Callable[..., Any]) -> Callable[..., Any]:
    def converter(*args: Any, meta_outputs: Any = None, **named: Any) -> Any:
        return convert(to, *args, **named)

    return converter
