"""One graph for every length, which ATC compiles in gears (`--dynamic_dims`)."""

import onnx_ir as ir

from export.expect import find
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import attention, node_name
from runtime.bundle.tensor_names import ATTENTION_MASK, INPUT_IDS, LOGITS, POSITION_IDS
from toolchain.targets.ascend.graph_edit import constant

__all__ = ["SEQ_LEN", "TOTAL_LEN", "OpenSeqLen"]

SEQ_LEN, TOTAL_LEN = "seq_len", "total_len"
COPIED = 0  # in the shape of a Reshape: the size that the input has there
REST = -1  # in the shape of a Reshape: what is left over


class OpenSeqLen(ir.passes.InPlacePass):
    """The longest prefill graph of one sequence -> the graph of all lengths.

    1. The new rows S and the columns C + S of the mask are left open in the inputs.
    2. Every Reshape that names S or C + S works them out from its input; one that changes nothing,
       as all between heads and groups do in multi-head attention, goes.

    Expects 7 L + 1 Reshapes, or 8 L + 1 where heads share groups, and three inputs.

    Args:
        config: the model.
        rows_axis: of the rows in key.{i}: 2 in layout HND, 1 in NHD.
    """

    def __init__(self, config: ModelConfig, rows_axis: int) -> None:
        super().__init__()
        self.config, self.rows_axis = config, rows_axis

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        graph = model.graph
        shapes = self._shapes()
        for name, node in find(graph, list(shapes)).items():
            _reshape(graph, node, shapes[name])
        for node in graph:
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = None
        for value in graph.outputs:
            if value.name != LOGITS:
                assert value.shape is not None, "portable shapes are known"
                dims: list[int | str] = list(value.shape.numpy())
                dims[self.rows_axis] = SEQ_LEN
                value.shape = ir.Shape(dims)
        opened: dict[str, list[int | str]] = {
            INPUT_IDS: [1, SEQ_LEN],
            POSITION_IDS: [1, SEQ_LEN],
            ATTENTION_MASK: [1, 1, SEQ_LEN, TOTAL_LEN],
        }
        for name, value in find(graph.inputs, list(opened)).items():
            value.shape = ir.Shape(opened[name])
        return ir.passes.PassResult(model, modified=True)

    def _shapes(self) -> dict[str, list[int]]:
        """Reshape by name -> the shape that it takes now."""
        model = self.config
        heads, groups, size = model.num_attention_heads, model.num_key_value_heads, model.head_dim
        by_head = [] if heads == groups else [[1, heads, REST, size]]  # else it is by group
        of_layer = [
            [1, REST, heads, size],  # query
            [1, REST, groups, size],  # key
            [1, REST, groups, size],  # value
            [1, groups, REST, size],  # query: the heads of a group as rows
            [1, heads, REST, COPIED],  # scores by head
            [1, groups, REST, COPIED],  # probabilities by group
            *by_head,  # result
            [1, REST, heads * size],  # heads side by side
        ]
        shapes = {
            node_name(attention(i), "Reshape", number): shape
            for i in range(model.num_hidden_layers)
            for number, shape in enumerate(of_layer)
        }
        before_logit_rows = node_name("", "Reshape")
        return {**shapes, before_logit_rows: [REST, model.hidden_size]}


def _reshape(graph: ir.Graph, node: ir.Node, shape: list[int]) -> None:
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None, "Reshape has two inputs"
    if source.shape == result.shape:
        ir.convenience.replace_all_uses_with(result, source)
        graph.remove(node, safe=True)
    else:
        node.replace_input_with(1, constant(graph, f"{node.name}.open", shape))
