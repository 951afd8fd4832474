"""One graph for every length, which ATC compiles in gears (`--dynamic_dims`)."""

import onnx_ir as ir

from export.expect import expect, find
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import head_norms, node_name
from runtime.bundle.tensor_names import ATTENTION_MASK, INPUT_IDS, LOGITS, POSITION_IDS
from toolchain.targets.ascend.graph_edit import constant, shape_of

__all__ = ["SEQ_LEN", "TOTAL_LEN", "OpenSeqLen"]

SEQ_LEN, TOTAL_LEN = "seq_len", "total_len"
BEFORE_LOGIT_ROWS = node_name("", "Reshape")  # (B, S, E) -> (B * S, E)
REST = -1  # in the shape of a Reshape: what is left over


class OpenSeqLen(ir.passes.InPlacePass):
    """The longest prefill graph of one sequence -> the graph of all lengths.

    1. The new rows S and the columns C + S of the mask are left open in the inputs.
    2. The Reshapes that name S work it out from their inputs: the one before logit_rows, and two of
       each norm of heads. All others already do, as RewriteAttention writes them where no number of
       rows is few.

    Expects these Reshapes, no other with a size for every dimension, and three inputs.

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
        for name, node in find(graph, self._of_heads()).items():
            batch_size, _, *rest = shape_of(node.outputs[0])
            shape = constant(graph, f"{name}.open", [batch_size, REST, *rest])
            node.replace_input_with(1, shape)
        closed = {str(node.name): node for node in graph if _is_closed(node)}
        last = expect(closed, [BEFORE_LOGIT_ROWS])[BEFORE_LOGIT_ROWS]
        shape = constant(graph, f"{last.name}.open", [REST, self.config.hidden_size])
        last.replace_input_with(1, shape)
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

    def _of_heads(self) -> list[str]:
        """The Reshapes to heads and back around the norms of queries and keys."""
        layers = range(self.config.num_hidden_layers if self.config.qk_norm else 0)
        modules = [module for i in layers for module in head_norms(i)]
        return [node_name(module, "Reshape", number) for module in modules for number in (0, 1)]


def _is_closed(node: ir.Node) -> bool:
    """Whether it is a Reshape that gives every size as a number."""
    if node.op_type != "Reshape":
        return False
    shape = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] else None
    return shape is not None and REST not in shape.numpy()
