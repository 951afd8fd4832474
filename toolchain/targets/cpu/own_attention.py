"""Attention over an int8 cache with kernels of our own, without going through float32."""

import onnx_ir as ir

from export.expect import expect
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import ATTENTION_KERNEL, attention_kernels
from runtime.kernels.layout import ATTENTION, DOMAIN

__all__ = ["OwnAttention"]

TOTAL_SEQUENCE_LENGTH = 6  # input of com.microsoft.GroupQueryAttention that ours does without
NO_INPUTS = slice(9, 12)  # those before k_scale and v_scale, which have no use here


class OwnAttention(ir.passes.InPlacePass):
    """com.microsoft.GroupQueryAttention with an int8 cache -> alpaca2.CachedAttention.

    Queries and probabilities become int8 as well, as what is multiplied with weights does.

    Expects L kernels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        found = {str(n.name): n for n in model.graph if n.op_type == ATTENTION_KERNEL}
        kernels = expect(found, attention_kernels(self.config.num_hidden_layers))
        for node in kernels.values():
            _replace(model.graph, node)
        model.opset_imports[DOMAIN] = 1
        return ir.passes.PassResult(model, modified=True)


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    inputs = list(node.inputs)
    del inputs[NO_INPUTS], inputs[TOTAL_SEQUENCE_LENGTH]
    attributes = {name: node.attributes[name].as_int() for name in ("num_heads", "kv_num_heads")}
    ours = ir.node(ATTENTION, inputs, attributes, domain=DOMAIN, num_outputs=3, name=str(node.name))
    for new, old in zip(ours.outputs, node.outputs, strict=True):
        new.name, new.shape, new.type = old.name, old.shape, old.type
    ir.convenience.replace_nodes_and_values(graph, node, [node], [ours], node.outputs, ours.outputs)
