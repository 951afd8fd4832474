"""Computes in float32, since x86 has no float16 arithmetic in ONNX Runtime."""

import numpy as np
import onnx_ir as ir

from export.expect import find
from runtime.bundle.node_names import EMBEDDING
from toolchain.targets.weights import column_blocks, register, row_blocks, streamed

__all__ = ["Float32"]

FLOATS = {ir.DataType.FLOAT16, ir.DataType.FLOAT}
CAST = "embed_tokens/Cast"


class Float32(ir.passes.InPlacePass):
    """Turns the float16 graph with float32 islands into one float32 graph.

    1. A Cast between float types disappears.
    2. A Transpose of a weight is done ahead of time.
    3. The embedding table stays float16 and its rows are cast after the Gather.
    4. Every other float16 tensor, input and output becomes float32.

    Expects the embedding.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        graph = model.graph
        embedding = find(graph, [EMBEDDING])[EMBEDDING]
        for node in list(graph):
            if _casts_between_floats(node):
                _bypass(graph, node)
            elif node.op_type == "Transpose" and _weight(node) is not None:
                _transpose_ahead(graph, node)
        _cast_rows(graph, embedding)
        kept = {*embedding.inputs, *embedding.outputs}
        computed = [value for node in graph for value in node.outputs]
        for value in (*graph.inputs, *graph.initializers.values(), *computed):
            if value.dtype == ir.DataType.FLOAT16 and value not in kept:
                _widen(value)
        return ir.passes.PassResult(model, modified=True)


def _casts_between_floats(node: ir.Node) -> bool:
    source = node.inputs[0] if node.op_type == "Cast" else None
    return source is not None and source.dtype in FLOATS


def _bypass(graph: ir.Graph, node: ir.Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None, "Cast has an input"
    if result.is_graph_output():
        source.name, result.name = result.name, f"{result.name}.cast"
        source.type = result.type
    ir.convenience.replace_all_uses_with(result, source, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _weight(node: ir.Node) -> ir.ExternalTensor | None:
    tensor = node.inputs[0].const_value if node.inputs[0] is not None else None
    return tensor if isinstance(tensor, ir.ExternalTensor) else None


def _transpose_ahead(graph: ir.Graph, node: ir.Node) -> None:
    tensor, result = _weight(node), node.outputs[0]
    assert tensor is not None, "the caller looked"
    rows, columns = tensor.shape.numpy()
    [transposed] = streamed(
        {f"{tensor.name}.transposed": (ir.DataType.FLOAT, (columns, rows))},
        lambda: ((block.astype(np.float32),) for block in column_blocks(tensor)),
    )
    ir.convenience.replace_all_uses_with(result, register(graph, transposed))
    graph.remove(node, safe=True)


def _cast_rows(graph: ir.Graph, node: ir.Node) -> None:
    rows = node.outputs[0]
    cast = ir.node("Cast", [rows], {"to": ir.DataType.FLOAT}, name=CAST)
    cast.outputs[0].name, cast.outputs[0].shape = CAST, rows.shape
    cast.outputs[0].dtype = ir.DataType.FLOAT
    readers = [use for use in rows.uses() if use.node is not cast]
    for reader, position in readers:
        reader.replace_input_with(position, cast.outputs[0])
    graph.insert_after(node, cast)


def _widen(value: ir.Value) -> None:
    tensor = value.const_value
    value.dtype = ir.DataType.FLOAT
    if tensor is not None:
        assert tensor.shape is not None
        value.const_value = _float32_tensor(tensor, value.name or "")


def _float32_tensor(tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
    if not isinstance(tensor, ir.ExternalTensor):
        return ir.Tensor(tensor.numpy().astype(np.float32), name=name)
    [widened] = streamed(
        {name: (ir.DataType.FLOAT, tensor.shape.numpy())},
        lambda: ((block.astype(np.float32),) for block in row_blocks(tensor)),
    )
    return widened
