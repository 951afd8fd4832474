"""A cache whose rows lie whole, so that one copy on the device appends to a layer."""

import onnx_ir as ir

from export.expect import find
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.tensor_names import new_key, new_value
from toolchain.targets.ascend.graph_edit import cache_inputs, transpose

__all__ = ["RowsFirstCache"]

SWAP = (0, 2, 1, 3)  # (B, G, C, D) <-> (B, C, G, D)


class RowsFirstCache(ir.passes.InPlacePass):
    """past_key.{i} (B, G, C, D) -> (B, C, G, D), and so the values and the new rows.

    The layout is NHD in vLLM's words. In HND a token is one piece of memory per head: 2,048 copies
    for a 7B instead of 64, and the 310P cannot copy strided memory inside the device
    (aclrtMemcpy2dAsync: device to device only on newer chips). What it costs is a transpose of the
    cache in the graph. Expects 2 L outputs, and 2 L inputs where the graph has a cache.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        graph, num_layers = model.graph, self.config.num_hidden_layers
        inputs = find(graph.inputs, cache_inputs(graph, num_layers))
        new_rows = [name(i) for i in range(num_layers) for name in (new_key, new_value)]
        outputs = find(graph.outputs, new_rows)
        for value in inputs.values():
            _swap_input(graph, value)
        for value in outputs.values():
            _swap_output(graph, value)
        return ir.passes.PassResult(model, modified=True)


def _swap_input(graph: ir.Graph, value: ir.Value) -> None:
    readers = list(value.uses())
    assert value.shape is not None, "portable shapes are known"
    value.shape = ir.Shape([value.shape.numpy()[axis] for axis in SWAP])
    node = transpose(value, SWAP, f"{value.name}/HND")
    for reader, position in readers:
        reader.replace_input_with(position, node.outputs[0])
    graph.insert_before(next(iter(graph)), node)


def _swap_output(graph: ir.Graph, rows: ir.Value) -> None:
    position, name = list(graph.outputs).index(rows), rows.name
    producer = rows.producer()
    assert producer is not None, "new rows are computed"
    rows.name = f"{name}/HND"
    if producer.op_type == "Transpose" and tuple(producer.attributes["perm"].as_ints()) == SWAP:
        swapped = producer.inputs[0]  # as it was before
        assert swapped is not None, "Transpose has an input"
    else:
        node = transpose(rows, SWAP, f"{name}/NHD")
        graph.insert_after(producer, node)
        swapped = node.outputs[0]
    swapped.name = name
    graph.outputs[position] = swapped
