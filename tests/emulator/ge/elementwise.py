"""Operators that take number by number; floating point is computed in float32 and rounded once."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from tests.emulator.ge.call import Array, Call, Operator, Results, Type, like, rounded

__all__ = ["ELEMENTWISE"]

Function = Callable[..., Any]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(np.float32(0), -x))


def _unary(function: Function) -> Operator:
    return Operator(lambda call: (_applied(function, call["x"]),), infer=like("x"))


def _binary(function: Function) -> Operator:
    def compute(call: Call) -> Results:
        return (_applied(function, call["x1"], call["x2"]),)

    return Operator(compute, infer=lambda call: (Type(call["x1"].dtype.name, _spread(call)),))


def _compared(function: Function) -> Operator:
    def compute(call: Call) -> Results:
        return (function(call["x1"], call["x2"]),)

    return Operator(compute, infer=lambda call: (Type("bool", _spread(call)),))


def _spread(call: Call) -> tuple[int, ...]:
    """The shape of two operands, which are of one type."""
    operands = call["x1"], call["x2"]
    if operands[0].dtype != operands[1].dtype:
        raise ValueError(f"operands are {operands[0].dtype}, {operands[1].dtype}")
    return np.broadcast_shapes(*(operand.shape for operand in operands))


def _applied(function: Function, *operands: Array) -> Array:
    first = operands[0]
    if is_float(first):
        with np.errstate(all="ignore"):
            return rounded(function(*(x.astype(np.float32) for x in operands)), first)
    return rounded(function(*operands), first)


def is_float(array: Array) -> bool:
    """Whether the numbers are floating point, bfloat16 too."""
    return np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"


def _cast(call: Call) -> Results:
    return (call["x"].astype(call.dtype_attr("dst_type")),)


def _bitcast(call: Call) -> Results:
    return (np.ascontiguousarray(call["x"]).view(call.dtype_attr("type")),)


def _copy(call: Call) -> Results:
    return (call["x"].copy(),)


def _select(call: Call) -> Results:
    return (np.where(call["condition"], call["then"], call["else"]),)


def _swish(call: Call) -> Results:
    x = call["x"].astype(np.float32)
    return (rounded(x * sigmoid(x * np.float32(call.attr("scale", 1.0))), call["x"]),)


def _softmax(call: Call) -> Results:
    (axis,) = call.attr("axes", (-1,))
    x = call["x"].astype(np.float32)
    powers = np.exp(x - x.max(axis, keepdims=True))
    return (rounded(powers / powers.sum(axis, keepdims=True), call["x"]),)


def _reduce(function: Function) -> Operator:
    def compute(call: Call) -> Results:
        axes, keep = call.ints("axes"), bool(call.attr("keep_dims", False))
        x = call["x"].astype(np.float32) if is_float(call["x"]) else call["x"]
        return (rounded(function(x, axis=axes, keepdims=keep), call["x"]),)

    return Operator(compute, ("axes",))


UNARY: Final[Mapping[str, Function]] = {
    "Abs": np.abs,
    "Cos": np.cos,
    "Exp": np.exp,
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Rsqrt": lambda x: np.float32(1) / np.sqrt(x),
    "Sigmoid": sigmoid,
    "Sin": np.sin,
    "Sqrt": np.sqrt,
    "Square": np.square,
    "LogicalNot": np.logical_not,
}
BINARY: Final[Mapping[str, Function]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "RealDiv": np.divide,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.mod,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Pow": np.power,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
}
COMPARED: Final[Mapping[str, Function]] = {
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
}

ELEMENTWISE: Final[Mapping[str, Operator]] = {
    **{name: _unary(function) for name, function in UNARY.items()},
    **{name: _binary(function) for name, function in BINARY.items()},
    **{name: _compared(function) for name, function in COMPARED.items()},
    "Cast": Operator(_cast),
    "Bitcast": Operator(_bitcast),
    "Identity": Operator(_copy, infer=like("x")),
    "TensorMove": Operator(_copy, infer=like("x")),
    "SelectV2": Operator(_select),
    "Swish": Operator(_swish, infer=like("x")),
    "SoftmaxV2": Operator(_softmax, infer=like("x")),
    "ReduceMean": _reduce(np.mean),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
}
