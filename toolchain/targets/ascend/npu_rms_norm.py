"""RMSNorm as the chip's own kernel."""

import math

import numpy as np
import onnx_ir as ir

from toolchain.targets.ascend.graph_edit import new_value

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
    gives y and the reciprocal of the root, which nobody reads.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites in place."""
        by_name = {node.name: node for node in model.graph}
        scopes = [
            str(name).removesuffix("/ReduceMean")
            for name in by_name
            if str(name).endswith("/ReduceMean")
        ]
        for scope in scopes:
            _fuse(model.graph, scope, by_name)
        model.opset_imports["npu"] = 1
        return ir.passes.PassResult(model, modified=bool(scopes))


def _fuse(graph: ir.Graph, scope: str, by_name: dict[str | None, ir.Node]) -> None:
    widened, added, last = (by_name[f"{scope}/{name}"] for name in ("Cast", "Add", "Mul_2"))
    gamma = next(value for value in last.inputs if value is not None and value.is_initializer())
    [epsilon] = [value.const_value for value in added.inputs if value and value.is_initializer()]
    assert epsilon is not None, "an initializer has a value"
    x, out = widened.outputs[0], last.outputs[0]
    assert x.shape is not None, "portable shapes are known"
    assert gamma.shape is not None, "weights have a shape"
    shape, size = x.shape.numpy(), gamma.shape.numpy()

    scale = _scalar(graph, "rms_norm.input_scale", input_scale(float(epsilon.numpy())))
    scaled = ir.node("Mul", [x, scale], name=f"{scope}/Scale")
    new_value(scaled.outputs[0], ir.DataType.FLOAT, shape)
    wide_gamma = ir.node("Cast", [gamma], {"to": ir.DataType.FLOAT}, name=f"{scope}/Gamma")
    new_value(wide_gamma.outputs[0], ir.DataType.FLOAT, size)
    kernel = ir.node(
        "NPURmsNorm",
        [scaled.outputs[0], wide_gamma.outputs[0]],
        domain="npu",
        num_outputs=2,
        name=f"{scope}/RMSNorm",
    )
    new_value(kernel.outputs[0], ir.DataType.FLOAT, shape)
    new_value(kernel.outputs[1], ir.DataType.FLOAT, (*shape[:-1], 1), f"{scope}/RMSNorm.rstd")
    narrowed = ir.node(
        "Cast", [kernel.outputs[0]], {"to": ir.DataType.FLOAT16}, name=f"{scope}/Narrow"
    )
    new_value(narrowed.outputs[0], ir.DataType.FLOAT16, shape)
    graph.insert_after(last, [scaled, wide_gamma, kernel, narrowed])
    ir.convenience.replace_all_uses_with(out, narrowed.outputs[0])
    graph.remove(last, safe=True)


def _scalar(graph: ir.Graph, name: str, number: float) -> ir.Value:
    if name not in graph.initializers:
        tensor = ir.Tensor(np.array(number, np.float32), name=name)
        value = ir.Value(
            name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        graph.register_initializer(value)
    return graph.initializers[name]
