"""RMSNorm as the chip's own kernel."""

import math

import numpy as np
import onnx_ir as ir

from export.expect import expect
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import norms
from toolchain.targets.ascend.graph_edit import NodeList, new_value, shape_of, shared
from toolchain.targets.norms import Norm, find_norms

__all__ = ["PLUGIN_EPSILON", "NpuRmsNorm", "input_scale"]

# What ATC's plugin for npu::NPURmsNorm sets, whatever the node says: ops-nn,
# norm/rms_norm/framework/npu_rms_norm_onnx_plugin.cpp.
PLUGIN_EPSILON = 1e-6


def input_scale(epsilon: float) -> float:
    """The factor c by which the kernel's epsilon acts as the model's.

    c x / sqrt(mean(c^2 x^2) + 1e-6) = x / sqrt(mean(x^2) + 1e-6 / c^2), so c^2 = 1e-6 / epsilon.
    """
    return math.sqrt(PLUGIN_EPSILON / epsilon)


class NpuRmsNorm(ir.passes.InPlacePass):
    """Cast, Mul, ReduceMean, Add, Sqrt, Reciprocal, Mul, Cast, Mul -> Mul, npu::NPURmsNorm.

    1. The kernel takes the float16 stream and sums in float32; it gives y and the reciprocal of the
       root, which nobody reads.
    2. The factor of `input_scale` costs the input half a spacing of float16, as much as writing it
       has cost; a Mul that would change nothing is left out.
    3. A model with a smaller epsilon than the plugin's keeps its norms as they are: the factor
       would be more than 1, and float16 might not hold the result.

    Expects 2 L + 1 norms.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        expected = norms(self.config.num_hidden_layers, self.config.qk_norm)
        found = expect(find_norms(model.graph), expected)
        fits = all(norm.epsilon >= PLUGIN_EPSILON for norm in found.values())
        if fits:
            for module, norm in found.items():
                _fuse(NodeList(model.graph, module), norm)
            model.opset_imports["npu"] = 1
        return ir.passes.PassResult(model, modified=fits)


def _fuse(nodes: NodeList, norm: Norm) -> None:
    widened = norm.x.producer()
    assert widened is not None, "the stream is cast to float32 first"
    x = widened.inputs[0]
    assert x is not None, "Cast has an input"
    if norm.epsilon != PLUGIN_EPSILON:
        factor = np.array(input_scale(norm.epsilon), np.float16)
        scale = shared(nodes.graph, "rms_norm.input_scale", factor)
        x = nodes.add("Mul", [x, scale], "Scale", shape_of(x))
    kernel = ir.node(
        "NPURmsNorm", [x, norm.gamma], domain="npu", num_outputs=2, name=f"{nodes.scope}/RMSNorm"
    )
    new_value(kernel.outputs[0], ir.DataType.FLOAT16, shape_of(x))
    rstd = (*shape_of(x)[:-1], 1)
    new_value(kernel.outputs[1], ir.DataType.FLOAT, rstd, f"{nodes.scope}/RMSNorm.rstd")
    nodes.graph.append(kernel)
    ir.convenience.replace_all_uses_with(norm.last.outputs[0], kernel.outputs[0])
