"""What the npu:: operators compute, written in plain ONNX so that ONNX Runtime can run them.

Only the three that a Llama graph uses are written; others stay and fail when they are run.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["expand_npu_ops", "int_attribute", "is_rms_norm", "is_rotary", "is_weight_quant"]

RMS_EPSILON = 1e-6  # ops-nn, norm/rms_norm/framework/npu_rms_norm_onnx_plugin.cpp sets it always


def is_weight_quant(node: onnx.NodeProto) -> bool:
    """Whether GE makes a WeightQuantBatchMatmulV2 of the node."""
    return node.op_type in ("WeightQuantBatchMatmulV2", "NPUWeightQuantBatchMatmulV2")


def is_rms_norm(node: onnx.NodeProto) -> bool:
    """Whether GE makes an RmsNorm of the node."""
    return node.op_type == "NPURmsNorm"


def is_rotary(node: onnx.NodeProto) -> bool:
    """Whether GE makes a RotaryMul of the node."""
    return node.op_type == "NPURotaryMul"


def int_attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An attribute as the plugins read it: only when its type is INT."""
    for attribute in node.attribute:
        if attribute.name == name and attribute.type == onnx.AttributeProto.INT:
            return int(attribute.i)
    return default


def expand_npu_ops(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which the nodes of the domain npu are replaced; names of values stay."""
    expanded = onnx.ModelProto()
    expanded.CopyFrom(model)
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:  # a weight may be turned round before it is used
        if node.op_type == "Transpose" and node.input[0] in dims:
            dims[node.output[0]] = dims[node.input[0]][::-1]
            types[node.output[0]] = types[node.input[0]]
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    del expanded.graph.node[:]
    for number, node in enumerate(model.graph.node):
        prefix = f"npu.{number}."
        if is_weight_quant(node) and node.input[1] in dims:
            expanded.graph.node.extend(_weight_quant(node, prefix, dims, types))
        elif is_rms_norm(node):
            expanded.graph.node.extend(_rms_norm(node, prefix, opset))
        elif is_rotary(node):
            expanded.graph.node.extend(_rotary(node, prefix))
        else:
            expanded.graph.node.append(node)
    return expanded


def _weight_quant(
    node: onnx.NodeProto,
    prefix: str,
    dims: dict[str, tuple[int, ...]],
    types: dict[str, int],
) -> Iterator[onnx.NodeProto]:
    """Yields the nodes of y = x @ ((w + offset) * scale) (+ bias), in the type of the scale."""
    inputs = [*node.input, *[""] * (7 - len(node.input))]
    x, weight, scale, offset, _, _, bias = inputs
    k = dims[weight][0]
    group = int_attribute(node, "antiquant_group_size", 0)
    compute = types.get(scale, TensorProto.FLOAT16)
    yield helper.make_node("Cast", [weight], [prefix + "w"], to=compute)
    value = prefix + "w"
    if group:
        rows = numpy_helper.from_array(np.arange(k, dtype=np.int64) // group)
        yield helper.make_node("Constant", [], [prefix + "rows"], value=rows)
    for name, operator in ((offset, "Add"), (scale, "Mul")):
        if not name:
            continue
        operand = name
        if group:
            operand = f"{prefix}{operator}.spread"
            yield helper.make_node("Gather", [name, prefix + "rows"], [operand], axis=0)
        elif len(dims.get(name, ())) == 2:  # (n, 1), a column in the documents
            operand = f"{prefix}{operator}.flat"
            shape = numpy_helper.from_array(np.array([-1], np.int64))
            yield helper.make_node("Constant", [], [operand + ".shape"], value=shape)
            yield helper.make_node("Reshape", [name, operand + ".shape"], [operand])
        result = prefix + operator
        yield helper.make_node(operator, [value, operand], [result])
        value = result
    product = prefix + "y" if bias else node.output[0]
    yield helper.make_node("MatMul", [x, value], [product])
    if bias:
        yield helper.make_node("Add", [product, bias], [node.output[0]])


def _rms_norm(node: onnx.NodeProto, prefix: str, opset: int) -> Iterator[onnx.NodeProto]:
    """Yields the nodes of RmsNorm over the last axis, computed in float32, in the type of x."""
    x, gamma = node.input[:2]
    epsilon = numpy_helper.from_array(np.array(RMS_EPSILON, np.float32))
    rstd = node.output[1] if len(node.output) > 1 and node.output[1] else prefix + "rstd"
    yield helper.make_node("Constant", [], [prefix + "epsilon"], value=epsilon)
    yield helper.make_node("Cast", [x], [prefix + "x"], to=TensorProto.FLOAT)
    yield helper.make_node("Mul", [prefix + "x", prefix + "x"], [prefix + "square"])
    if opset < 18:
        square = [prefix + "square"]
        yield helper.make_node("ReduceMean", square, [prefix + "mean"], axes=[-1], keepdims=1)
    else:
        axes = numpy_helper.from_array(np.array([-1], np.int64))
        yield helper.make_node("Constant", [], [prefix + "axes"], value=axes)
        square = [prefix + "square", prefix + "axes"]
        yield helper.make_node("ReduceMean", square, [prefix + "mean"], keepdims=1)
    yield helper.make_node("Add", [prefix + "mean", prefix + "epsilon"], [prefix + "sum"])
    yield helper.make_node("Sqrt", [prefix + "sum"], [prefix + "root"])
    yield helper.make_node("Reciprocal", [prefix + "root"], [rstd])
    yield helper.make_node("Mul", [prefix + "x", rstd], [prefix + "normal"])
    yield helper.make_node("Cast", [gamma], [prefix + "gamma"], to=TensorProto.FLOAT)
    yield helper.make_node("Mul", [prefix + "normal", prefix + "gamma"], [prefix + "scaled"])
    yield helper.make_node("CastLike", [prefix + "scaled", x], [node.output[0]])


def _rotary(node: onnx.NodeProto, prefix: str) -> Iterator[onnx.NodeProto]:
    """Yields the nodes of x * cos + concat(-right, left) * sin, the mode without attributes."""
    x, cos, sin = node.input
    halves = [prefix + "left", prefix + "right"]
    yield helper.make_node("Split", [x], halves, axis=-1)
    yield helper.make_node("Neg", [prefix + "right"], [prefix + "negative"])
    turned = [prefix + "negative", prefix + "left"]
    yield helper.make_node("Concat", turned, [prefix + "turned"], axis=-1)
    yield helper.make_node("Mul", [x, cos], [prefix + "straight"])
    yield helper.make_node("Mul", [prefix + "turned", sin], [prefix + "across"])
    yield helper.make_node("Add", [prefix + "straight", prefix + "across"], [node.output[0]])
