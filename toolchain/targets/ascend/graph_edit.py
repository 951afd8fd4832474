"""Small steps that the passes of this target share."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.expect import find
from runtime.bundle.tensor_names import ATTENTION_MASK, past_key, past_value

__all__ = ["NodeList", "cache_inputs", "constant", "new_value", "shape_of", "shared", "transpose"]

Attribute = int | float | str | Sequence[int]


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


def shape_of(value: ir.Value | None) -> tuple[int, ...]:
    """The static shape."""
    assert value is not None, "the input is given"
    assert value.shape is not None, "portable shapes are known"
    return tuple(value.shape.numpy())


def shared(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """An initializer that all layers read: made when the first of them asks for the name."""
    if name not in graph.initializers:
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(
            name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        graph.register_initializer(value)
    return graph.initializers[name]


class NodeList:
    """New nodes of one scope, float16 if nothing else is said; `tidy` puts them where they belong.

    Args:
        graph: what they are added to.
        scope: a module; a node and its result are {scope}/{name}.
    """

    def __init__(self, graph: ir.Graph, scope: str) -> None:
        self.graph, self.scope = graph, scope

    def add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        name: str,
        shape: Sequence[int],
        *,
        dtype: ir.DataType = ir.DataType.FLOAT16,
        attributes: Mapping[str, Attribute] | None = None,
        domain: str = "",
    ) -> ir.Value:
        """A node with one result of this shape."""
        node = ir.node(
            op_type, inputs, attributes or {}, domain=domain, name=f"{self.scope}/{name}"
        )
        new_value(node.outputs[0], dtype, shape)
        self.graph.append(node)
        return node.outputs[0]

    def reshape(
        self, x: ir.Value, name: str, shape: Sequence[int], written: Sequence[int] | None = None
    ) -> ir.Value:
        """Gives x this shape; x itself where it has it.

        Args:
            x: what is reshaped.
            name: of the node.
            shape: the result's.
            written: how the node says it, where a size may be left to be worked out (-1, or 0 for
                that of x): then it holds for any number of rows.
        """
        if shape_of(x) == tuple(shape):
            return x
        numbers = [*(shape if written is None else written)]
        target = shared(
            self.graph, f"shape.{'x'.join(map(str, numbers))}", np.array(numbers, np.int64)
        )
        assert x.dtype is not None, "portable types are known"
        return self.add("Reshape", [x, target], name, shape, dtype=x.dtype)

    def transpose(self, x: ir.Value, name: str, perm: Sequence[int]) -> ir.Value:
        """Puts the axes of x in another order."""
        node = transpose(x, perm, f"{self.scope}/{name}")
        self.graph.append(node)
        return node.outputs[0]

    def split(
        self, x: ir.Value, names: Sequence[str], axis: int, sizes: list[int]
    ) -> list[ir.Value]:
        """Cuts x along an axis into parts of these sizes; the node is named for all of them."""
        lengths = shared(
            self.graph, f"sizes.{'_'.join(map(str, sizes))}", np.array(sizes, np.int64)
        )
        node = ir.node(
            "Split",
            [x, lengths],
            {"axis": axis},
            num_outputs=len(sizes),
            name=f"{self.scope}/{'_'.join(names)}",
        )
        assert x.dtype is not None, "portable types are known"
        for value, name, size in zip(node.outputs, names, sizes, strict=True):
            shape = [*shape_of(x)]
            shape[axis] = size
            new_value(value, x.dtype, shape, f"{self.scope}/{name}")
        self.graph.append(node)
        return list(node.outputs)
