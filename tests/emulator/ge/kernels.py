"""The kernels that a Llama decoder is made of, with the roundings of their sources.

Sources: ops-nn, norm/{rms_norm,add_rms_norm}/op_kernel, activation/swi_glu and index/scatter;
ops-transformer, posembedding.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from tests.emulator.ge.attention import attention, attention_type
from tests.emulator.ge.call import Array, Call, Operator, Results, Type, like, rounded
from tests.emulator.ge.elementwise import sigmoid

__all__ = ["KERNELS"]


def _inverse_root(x: Array, call: Call) -> Array:
    mean = np.mean(x * x, axis=-1, keepdims=True)
    root: Array = np.sqrt(mean + np.float32(call.attr("epsilon", 1e-6)))
    return np.reciprocal(root)


def _rms_norm(call: Call) -> Results:
    """Rounded once, behind the product with gamma."""
    x = call["x"].astype(np.float32)
    rstd = _inverse_root(x, call)
    return (rounded(x * rstd * call["gamma"].astype(np.float32), call["x"]), rstd)


def _add_rms_norm(call: Call) -> Results:
    """The sum is rounded before its norm is taken, and the norm before the product with gamma."""
    total = rounded(call["x1"].astype(np.float32) + call["x2"].astype(np.float32), call["x1"])
    x = total.astype(np.float32)
    rstd = _inverse_root(x, call)
    normed = rounded(x * rstd, total).astype(np.float32)
    return (rounded(normed * call["gamma"].astype(np.float32), total), rstd, total)


def _rotated(x: Array, cos: Array, sin: Array) -> Array:
    """x * cos + concat(-right, left) * sin; each step is rounded to the type of x."""
    left, right = np.split(x, 2, axis=-1)
    across = np.concatenate((-right, left), axis=-1)
    turned: Array = x * cos + across * sin
    return turned


def _apply_rotary(call: Call) -> Results:
    tables = call["cos"], call["sin"]
    return tuple(_rotated(call[name], *tables) for name in ("query", "key"))


def _rotary_mul(call: Call) -> Results:
    return (_rotated(call["x"], call["r1"], call["r2"]),)


def _swiglu(call: Call) -> Results:
    left, right = np.split(call["x"].astype(np.float32), 2, axis=call.attr("dim", -1))
    return (rounded(left * sigmoid(left) * right, call["x"]),)


def _scatter(call: Call) -> Results:
    """var[b, ..., index[b] + i, ...] = updates[b, ..., i, ...] along an axis, in place."""
    var, updates = call["var"], call["updates"]
    axis = call.attr("axis", 0) % var.ndim
    starts = call["indices"].reshape(updates.shape[0], -1)
    for number, start in enumerate(starts):
        batch, begin = (number, int(start[0])) if start.size == 1 else map(int, start)
        end = begin + updates.shape[axis]
        if begin < 0 or end > var.shape[axis] or batch >= var.shape[0]:
            raise IndexError(f"{call.node.name} writes {begin} to {end} of {var.shape[axis]} rows")
        place = [slice(None)] * (var.ndim - 1)
        place[axis - 1] = slice(begin, end)
        var[batch][tuple(place)] = updates[number]
    return (var,)


def _assign(call: Call) -> Results:
    call["ref"][...] = call["value"]
    return (call["ref"],)


def _norm_type(call: Call) -> tuple[Type, ...]:
    x = call["x" if "x" in call else "x1"]
    found = Type(x.dtype.name, x.shape)
    rstd = Type("float32", (*x.shape[:-1], 1))
    return (found, rstd, found) if "x1" in call else (found, rstd)


KERNELS: Final[Mapping[str, Operator]] = {
    "RmsNorm": Operator(_rms_norm, infer=_norm_type),
    "AddRmsNorm": Operator(_add_rms_norm, infer=_norm_type),
    "ApplyRotaryPosEmb": Operator(_apply_rotary, infer=like("query", "key")),
    "RotaryMul": Operator(_rotary_mul, infer=like("x")),
    "SwiGlu": Operator(_swiglu),
    "FusedInferAttentionScore": Operator(attention, infer=attention_type),
    "Scatter": Operator(_scatter, infer=like("var")),
    "Assign": Operator(_assign, infer=like("ref")),
}
