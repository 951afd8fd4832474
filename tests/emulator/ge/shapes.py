"""Operators that move numbers and compute none."""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tests.emulator.ge.call import Array, Call, Operator, Results
from tests.emulator.om import numpy_dtype

__all__ = ["SHAPES"]


def _reshape(call: Call) -> Results:
    x, wanted = call["x"], list(call.ints("shape"))
    wanted = [x.shape[axis] if dim == 0 else dim for axis, dim in enumerate(wanted)]
    return (np.ascontiguousarray(x).reshape(wanted),)


def _unsqueeze(call: Call) -> Results:
    return (np.expand_dims(call["x"], tuple(call.attr("axes", ()))),)


def _squeeze(call: Call) -> Results:
    axes = tuple(call.attr("axis", ()) or call.attr("axes", ()))
    return (np.squeeze(call["x"], axes or None),)


def _transpose(call: Call) -> Results:
    return (np.transpose(call["x"], call.ints("perm")),)


def _concat(call: Call) -> Results:
    parts = call.many("x")
    if len({part.dtype for part in parts}) > 1:
        raise ValueError("parts are of several types")
    return (np.concatenate(parts, call.int("concat_dim")),)


def _concat_here(call: Call) -> Results:
    return (np.concatenate(call.many("x"), call.attr("concat_dim")),)


def _pack(call: Call) -> Results:
    return (np.stack(call.many("x"), call.attr("axis", 0)),)


def _split_sizes(call: Call) -> Results:
    x, axis, sizes = call["x"], call.int("split_dim"), list(call.ints("size_splits"))
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.shape[axis] - sum(size for size in sizes if size >= 0)
    if sum(sizes) != x.shape[axis]:
        raise ValueError(f"{sizes} of {x.shape[axis]}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1].tolist(), axis))


def _split(call: Call) -> Results:
    return tuple(np.split(call["x"], call.attr("num_split"), call.int("split_dim")))


def _gather(call: Call) -> Results:
    """Indices beyond the end are an error of the AI Core: the page of GatherV2."""
    x, axis = call["x"], call.int("axis") if "axis" in call else 0
    if call.attr("batch_dims", 0):
        raise ValueError("batch_dims is not imitated by this emulator")
    indices = call["indices"].astype(np.int64)
    lowest = -x.shape[axis] if call.attr("negative_index_support", False) else 0
    if indices.size and (indices.min() < lowest or indices.max() >= x.shape[axis]):
        raise IndexError(f"an index of {call.node.name} is outside of {x.shape[axis]}")
    before: tuple[Any, ...] = (slice(None),) * (axis % x.ndim)
    return (x[(*before, indices)],)


def _index(call: Call) -> Results:
    """Advanced indexing; the mask says which axes have a tensor of indices."""
    tensors = iter(call.many("indices"))
    chosen = tuple(
        next(tensors).astype(np.int64) if masked else slice(None)
        for masked in call.attr("indices_mask", ())
    )
    return (call["x"][chosen],)


def _strided_slice(call: Call) -> Results:
    x = call["x"]
    masks = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    if any(call.attr(mask, 0) for mask in masks):
        raise ValueError("masks are not imitated by this emulator")
    begin, end = call.ints("begin"), call.ints("end")
    axes = call.ints("axes") if "axes" in call else tuple(range(len(begin)))
    strides = call.ints("strides") if "strides" in call else (1,) * len(begin)
    chosen = [slice(None)] * x.ndim
    for axis, start, stop, step in zip(axes, begin, end, strides, strict=True):
        chosen[axis] = slice(start, stop, step)
    return (x[tuple(chosen)],)


def _broadcast(call: Call) -> Results:
    return (np.broadcast_to(call["x"], call.ints("shape")),)


def _tile(call: Call) -> Results:
    return (np.tile(call["x"], call.ints("multiples")),)


def _fill(call: Call) -> Results:
    value = call["value"].reshape(())
    return (np.full(call.ints("dims"), value, value.dtype),)


def _range(call: Call) -> Results:
    start, limit, delta = (call[name].reshape(()) for name in ("start", "limit", "delta"))
    count = max(0, math.ceil((limit.item() - start.item()) / delta.item()))
    return (start + delta * np.arange(count, dtype=start.dtype),)


def _shape(call: Call) -> Results:
    dtype: np.dtype[Any] = numpy_dtype("int32")
    if call.attr("dtype") is not None:
        dtype = call.dtype_attr("dtype")
    shape: Array = np.array(call["x"].shape, dtype)
    return (shape,)


def _same(name: str) -> Operator:
    return Operator(lambda call: (call[name],))


SHAPES: Final[Mapping[str, Operator]] = {
    "Reshape": Operator(_reshape, ("shape",)),
    "Unsqueeze": Operator(_unsqueeze),
    "Squeeze": Operator(_squeeze),
    "Transpose": Operator(_transpose, ("perm",)),
    "ConcatV2": Operator(_concat, ("concat_dim",)),
    "ConcatD": Operator(_concat_here),
    "Pack": Operator(_pack),
    "SplitV": Operator(_split_sizes, ("size_splits", "split_dim")),
    "Split": Operator(_split, ("split_dim",)),
    "GatherV2": Operator(_gather, ("axis",)),
    "Gather": Operator(_gather),
    "IndexByTensor": Operator(_index),
    "StridedSliceV2": Operator(_strided_slice, ("begin", "end", "axes", "strides")),
    "BroadcastTo": Operator(_broadcast, ("shape",)),
    "Tile": Operator(_tile, ("multiples",)),
    "Fill": Operator(_fill, ("dims",)),
    "Range": Operator(_range, ("start", "limit", "delta")),
    "Shape": Operator(_shape),
    "TransData": _same("src"),
}
