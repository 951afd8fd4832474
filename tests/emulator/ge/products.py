"""Products of matrices: float16 operands, float32 sums, one rounding at the end."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from tests.emulator.ge.call import Array, Call, Operator, Results, Type, rounded

__all__ = ["PRODUCTS", "TURNED", "right_dims"]

# How each spells that an operand is to be turned round.
TURNED: Final[Mapping[str, tuple[str, str]]] = {
    "MatMul": ("transpose_x1", "transpose_x2"),
    "MatMulV2": ("transpose_x1", "transpose_x2"),
    "MatMulV3": ("transpose_x1", "transpose_x2"),
    "BatchMatMul": ("adj_x1", "adj_x2"),
    "BatchMatMulV2": ("adj_x1", "adj_x2"),
    "BatchMatMulV3": ("adj_x1", "adj_x2"),
}


def _turned(array: Array, flag: bool) -> Array:
    return array.swapaxes(-1, -2) if flag else array


def _product(call: Call) -> Results:
    first, second = (bool(call.attr(name, False)) for name in TURNED[call.node.type])
    product = _turned(call.wide("x1"), first) @ _turned(call.wide("x2"), second)
    if "bias" in call:
        product += call.wide("bias")
    return (rounded(product, call["x1"]),)


def _product_type(call: Call) -> tuple[Type, ...]:
    first, second = (bool(call.attr(name, False)) for name in TURNED[call.node.type])
    x1, x2 = _turned(call["x1"], first), _turned(call["x2"], second)
    if x1.dtype != x2.dtype:
        raise ValueError(f"x1 is {x1.dtype}, x2 {x2.dtype}")
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-2]:
        raise ValueError(f"x1 is {list(x1.shape)}, x2 {list(x2.shape)}")
    if not call.node.type.startswith("Batch") and (x1.ndim, x2.ndim) != (2, 2):
        raise ValueError(f"x1 is {list(x1.shape)}, x2 {list(x2.shape)}; two dims are taken")
    batch = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    return (Type(x1.dtype.name, (*batch, x1.shape[-2], x2.shape[-1])),)


def right_dims(call: Call) -> tuple[int, int]:
    """(k, n) of a quantised weight, however it lies."""
    rows, columns = call["weight"].shape
    return (columns, rows) if call.attr("transpose_weight", False) else (rows, columns)


def _weight_quant(call: Call) -> Results:
    """y = x @ ((w + offset) * scale) + bias; the weight is rounded to the type of x."""
    turned = bool(call.attr("transpose_weight", False))
    group = call.attr("antiquant_group_size", 0)
    names = tuple(n for n in ("weight", "antiquant_scale", "antiquant_offset") if n in call)

    def spread(name: str) -> Array:
        scale = call[name].astype(np.float32)
        if group:
            full = np.repeat(_turned(scale, turned), group, axis=0)
            return full[: right_dims(call)[0]]
        return scale.reshape(1, -1)

    def weight() -> Array:
        levels = _turned(call["weight"], turned).astype(np.float32)
        if "antiquant_offset" in call:
            levels = levels + spread("antiquant_offset")
        return rounded(levels * spread("antiquant_scale"), call["x"]).astype(np.float32)

    product = call["x"].astype(np.float32) @ call.remembered(names, weight)
    if "bias" in call:
        product += call["bias"].astype(np.float32)
    return (rounded(product, call["x"]),)


def _weight_quant_type(call: Call) -> tuple[Type, ...]:
    x, (k, n) = call["x"], right_dims(call)
    if x.ndim < 2 or x.shape[-1] != k:
        raise ValueError(f"x is {list(x.shape)}, weight ({k}, {n})")
    return (Type(x.dtype.name, (*x.shape[:-1], n)),)


PRODUCTS: Final[Mapping[str, Operator]] = {
    **{name: Operator(_product, infer=_product_type) for name in TURNED},
    "WeightQuantBatchMatmulV2": Operator(_weight_quant, infer=_weight_quant_type),
}
