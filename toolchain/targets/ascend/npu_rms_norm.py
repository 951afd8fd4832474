"""RMSNorm as the chip's own kernel."""

import math

import numpy as np
import onnx_ir as ir

from export.expect import expect
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import norms
from toolchain.targets.ascend.graph_edit import new_value
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
    """Mul, ReduceMean, Add, Sqrt, Reciprocal, Mul, Cast, Mul -> Mul, npu::NPURmsNorm, Cast.

    Input and gamma are float32, so that the factor of `input_scale` costs no digits; the kernel
    gives y and the reciprocal of the root, which nobody reads. Expects 2 L + 1 norms.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        found = expect(find_norms(model.graph), norms(self.config.num_hidden_layers))
        for module, norm in found.items():
            _fuse(model.graph, module, norm)
        model.opset_imports["npu"] = 1
        return ir.passes.PassResult(model, modified=True)


def _fuse(graph: ir.Graph, module: str, norm: Norm) -> None:
    x, gamma, out = norm.x, norm.gamma, norm.last.outputs[0]
    assert x.shape is not None, "portable shapes are known"
    assert gamma.shape is not None, "weights have a shape"
    shape, size = x.shape.numpy(), gamma.shape.numpy()

    scale = _scalar(graph, "rms_norm.input_scale", input_scale(norm.epsilon))
    scaled = ir.node("Mul", [x, scale], name=f"{module}/Scale")
    new_value(scaled.outputs[0], ir.DataType.FLOAT, shape)
    wide_gamma = ir.node("Cast", [gamma], {"to": ir.DataType.FLOAT}, name=f"{module}/Gamma")
    new_value(wide_gamma.outputs[0], ir.DataType.FLOAT, size)
    kernel = ir.node(
        "NPURmsNorm",
        [scaled.outputs[0], wide_gamma.outputs[0]],
        domain="npu",
        num_outputs=2,
        name=f"{module}/RMSNorm",
    )
    new_value(kernel.outputs[0], ir.DataType.FLOAT, shape)
    new_value(kernel.outputs[1], ir.DataType.FLOAT, (*shape[:-1], 1), f"{module}/RMSNorm.rstd")
    narrowed = ir.node(
        "Cast", [kernel.outputs[0]], {"to": ir.DataType.FLOAT16}, name=f"{module}/Narrow"
    )
    new_value(narrowed.outputs[0], ir.DataType.FLOAT16, shape)
    graph.insert_after(norm.last, [scaled, wide_gamma, kernel, narrowed])
    ir.convenience.replace_all_uses_with(out, narrowed.outputs[0])
    graph.remove(norm.last, safe=True)


def _scalar(graph: ir.Graph, name: str, number: float) -> ir.Value:
    if name not in graph.initializers:
        tensor = ir.Tensor(np.array(number, np.float32), name=name)
        value = ir.Value(
            name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        graph.register_initializer(value)
    return graph.initializers[name]
