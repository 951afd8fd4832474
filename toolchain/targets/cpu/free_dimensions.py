"""One graph for every batch size and length, so that its weights are packed once."""

import numpy as np
import onnx_ir as ir

from export.expect import find
from runtime.bundle.node_names import LAST_NORM, LM_HEAD, norm_parts
from runtime.bundle.tensor_names import INPUT_IDS, LOGIT_ROWS, LOGITS
from runtime.sessions.onnx.inplace_cache import SEQLENS_K, TOTAL_SEQUENCE_LENGTH

__all__ = ["BATCH_SIZE", "NUM_LOGIT_ROWS", "SEQ_LEN", "FreeDimensions"]

BATCH_SIZE, SEQ_LEN, NUM_LOGIT_ROWS = "batch_size", "seq_len", "num_logit_rows"
OPEN = {
    INPUT_IDS: [BATCH_SIZE, SEQ_LEN],
    LOGIT_ROWS: [NUM_LOGIT_ROWS],
    SEQLENS_K: [BATCH_SIZE],
}
*_, NORMED = norm_parts(LAST_NORM)


class FreeDimensions(ir.passes.InPlacePass):
    """Any graph of the family -> the graph that computes them all.

    ONNX Runtime packs the weights of every graph that it opens and gains nothing from static
    shapes on a CPU, so the family becomes one graph:

    1. The LM head runs on the rows that `logit_rows` names, of the flattened (B * S).
    2. The sizes of the batch, of the chunk and of the chosen rows are left open.
    3. A Reshape, as norms of heads have two, takes the first two sizes as they come.

    Expects the last norm's product and the LM head's.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        graph = model.graph
        found = find(graph, [NORMED, LM_HEAD])
        for node in [node for node in graph if node.op_type == "Reshape"]:
            _keep_rows(graph, node)
        self._choose_rows(graph, found[NORMED].outputs[0], found[LM_HEAD])
        for node in graph:
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = None
        for value in (*graph.inputs, *graph.outputs):
            if value.name == LOGITS:
                continue
            if value.name in OPEN:
                value.shape = ir.Shape(OPEN[value.name])
            elif value.name != TOTAL_SEQUENCE_LENGTH:  # a cache: rows and heads stay
                assert value.shape is not None, "the portable graph is static"
                value.shape = ir.Shape([BATCH_SIZE, *value.shape.dims[1:]])
        return ir.passes.PassResult(model, modified=True)

    def _choose_rows(self, graph: ir.Graph, normed: ir.Value, head: ir.Node) -> None:
        rows = next((value for value in graph.inputs if value.name == LOGIT_ROWS), None)
        if rows is None:
            rows = ir.Value(name=LOGIT_ROWS, type=ir.TensorType(ir.DataType.INT64))
            graph.inputs.insert(1, rows)
        shape = ir.Value(
            name="logit_rows/flat",
            const_value=ir.Tensor(np.array([-1, _width(normed)]), name="logit_rows/flat"),
        )
        graph.register_initializer(shape)
        flat = ir.node("Reshape", [normed, shape], name="logit_rows/Reshape")
        chosen = ir.node("Gather", [flat.outputs[0], rows], {"axis": 0}, name="logit_rows/Gather")
        graph.insert_before(head, [flat, chosen])
        head.replace_input_with(0, chosen.outputs[0])
        old, logits = graph.outputs[0], head.outputs[0]
        old.name, graph.outputs[0] = f"{LOGITS}.static", logits
        logits.name, logits.type = LOGITS, old.type
        logits.shape = ir.Shape([NUM_LOGIT_ROWS, _width(old)])


def _keep_rows(graph: ir.Graph, node: ir.Node) -> None:
    sizes = node.inputs[1]
    assert sizes is not None, "Reshape has two inputs"
    assert sizes.const_value is not None, "the portable graph is static"
    name = f"{node.name}.kept"
    kept = np.concatenate([np.zeros(2, np.int64), sizes.const_value.numpy()[2:]])
    value = ir.Value(name=name, const_value=ir.Tensor(kept, name=name))
    graph.register_initializer(value)
    node.replace_input_with(1, value)


def _width(value: ir.Value) -> int:
    assert value.shape is not None, "the portable graph is static"
    width = value.shape[-1]
    assert isinstance(width, int), "the portable graph is static"
    return width
