"""The KV cache in int8, one scale for every channel of every key and value head."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.expect import expect
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import ATTENTION_KERNEL, attention_kernels
from runtime.bundle.tensor_names import new_key, new_value

__all__ = ["QuantizeCache"]

NUM_INPUTS = 12  # of com.microsoft.GroupQueryAttention before k_scale and v_scale


class QuantizeCache(ir.passes.InPlacePass):
    """float32 buffers of GroupQueryAttention -> int8 buffers with k_scale and v_scale.

    The kernel quantises new rows as it appends them, and multiplies with what the int8 numbers
    stand for; queries and probabilities stay float32. Expects L kernels.

    Args:
        config: the model.
        scales: for every output key.{i} and value.{i} float32 (G, D).
    """

    def __init__(self, config: ModelConfig, scales: Mapping[str, NDArray[np.float32]]) -> None:
        super().__init__()
        self.config, self.scales = config, scales

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        found = {str(n.name): n for n in model.graph if n.op_type == ATTENTION_KERNEL}
        kernels = expect(found, attention_kernels(self.config.num_hidden_layers))
        for layer, node in enumerate(kernels.values()):
            added = [
                _initializer(model.graph, f"{name}.scale", self.scales[name])
                for name in (new_key(layer), new_value(layer))
            ]
            node.resize_inputs(NUM_INPUTS + len(added))
            for position, scale in enumerate(added, NUM_INPUTS):
                node.replace_input_with(position, scale)
            for name in ("k_quant_type", "v_quant_type"):
                node.attributes.add(ir.AttrString(name, "PER_CHANNEL"))
            node.attributes.add(ir.AttrInt64("kv_cache_bit_width", 8))
            for buffer in (*node.inputs[3:5], *node.outputs[1:]):
                assert buffer is not None, "the pass that made the kernel gave it a cache"
                buffer.dtype = ir.DataType.INT8
        return ir.passes.PassResult(model, modified=True)


def _initializer(graph: ir.Graph, name: str, scale: NDArray[np.float32]) -> ir.Value:
    value = ir.Value(
        name=name,
        shape=ir.Shape(scale.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.Tensor(scale, name=name),
    )
    graph.register_initializer(value)
    return value
