"""Small steps that the passes of this target share."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from export.expect import find
from runtime.bundle.tensor_names import ATTENTION_MASK, past_key, past_value

__all__ = ["cache_inputs", "constant", "new_value", "transpose"]


def cache_inputs(graph: ir.Graph, num_layers: int) -> list[str]:
    """Names of the inputs that hold the cache, 2 L; none where the mask has no column for one."""
    [mask] = find(graph.inputs, [ATTENTION_MASK]).values()
    assert mask.shape is not None, "inputs have a shape"
    *_, num_rows, num_columns = mask.shape.numpy()
    layers = range(num_layers if num_columns > num_rows else 0)
    return [name for i in layers for name in (past_key(i), past_value(i))]


def constant(graph: ir.Graph, name: str, numbers: Sequence[int]) -> ir.Value:
    """An int64 initializer, such as the shape that a Reshape takes."""
    tensor = ir.Tensor(np.array(numbers, np.int64), name=name)
    value = ir.Value(
        name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def new_value(
    value: ir.Value, dtype: ir.DataType, shape: Sequence[int], name: str | None = None
) -> None:
    """Gives a node's output its name, that of the node by default, its type and its shape."""
    producer = value.producer()
    assert producer is not None, "outputs of nodes only"
    value.name = name or producer.name
    value.type, value.shape = ir.TensorType(dtype), ir.Shape(shape)


def transpose(value: ir.Value, perm: Sequence[int], name: str) -> ir.Node:
    """A Transpose of the value, not yet in a graph."""
    assert value.shape is not None, "portable shapes are known"
    assert value.dtype is not None, "portable types are known"
    node = ir.node("Transpose", [value], {"perm": list(perm)}, name=name)
    new_value(node.outputs[0], value.dtype, [value.shape.numpy()[axis] for axis in perm])
    return node
