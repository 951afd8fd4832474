"""What ATC refuses of a graph: operators nobody registered and types that a chip cannot compute.

Takes the nodes and the types of one binding. Sources: ge, parser/parser/onnx; ops-nn, op_host.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Final

import onnx
from onnx import TensorProto

from tests.emulator.atc_errors import AtcError, inner_error
from tests.emulator.atc_graph import Binding, TensorType
from tests.emulator.npu_ops import int_attribute, is_rms_norm, is_rotary, is_weight_quant
from tests.emulator.weights import type_name
from tests.paths import ROOT

__all__ = ["check_nodes", "check_registered"]

REGISTRATIONS: Final = ROOT / "toolchain/targets/ascend/rules/atc_onnx_ops.json"
# ops-transformer, incre_flash_attention: keys and values are made and filled at different indices.
# What ATC says of it is a guess.
_BROKEN: Final = {"NPUIncreFlashAttention": "its plugin leaves inputs unconnected"}
MAX_WEIGHT_DIM: Final = 65535  # ops-nn, matmul/weight_quant_batch_matmul_v2/docs


def check_registered(model: onnx.ModelProto) -> None:
    """Every operator must be registered for exactly the opset version of the model.

    ge, parser/parser/onnx/onnx_parser.cc: the key is domain::version::OpType, with no fallback
    to an older version.
    """
    known: dict[str, list[int]] = json.loads(REGISTRATIONS.read_text())
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    for node in _all_nodes(model.graph):
        domain = node.domain or "ai.onnx"
        version = versions.get(domain, 0)
        key = node.op_type if domain == "ai.onnx" else f"{domain}::{node.op_type}"
        if node.op_type != "Constant" and version not in known.get(key, []):
            name = f"{domain}::{version}::{node.op_type}"
            raise AtcError(
                "E16002",
                f"No ONNX parser is registered for optype {name}.",
                solution="Check whether the operator and its opset version are supported.",
                title="Invalid_Argument_ONNX_Model_Data",
            )
        if node.op_type in _BROKEN:
            raise _unsupported(node, _BROKEN[node.op_type])


def check_nodes(model: onnx.ModelProto, binding: Binding, soc: str, precision: str) -> None:
    """Types and shapes of the nodes.

    Raises:
        AtcError: a chip has no kernel for one; all the codes here are guesses.
    """
    if soc.startswith("Ascend310P"):
        for name, found in binding.types.items():
            if found.element == TensorProto.BFLOAT16:
                raise inner_error(f"Tensor {name} is bfloat16, which {soc} cannot compute.")
    constants = {tensor.name for tensor in model.graph.initializer}
    transposes = [node for node in model.graph.node if node.op_type == "Transpose"]
    for node in _all_nodes(model.graph):
        if node.op_type in ("MatMul", "Gemm"):
            _check_matmul(node, binding.types, soc, precision)
        elif is_weight_quant(node):
            _check_weight_quant(node, binding, soc, constants, transposes)
        elif is_rms_norm(node):
            _check_rms_norm(node, binding.types)
        elif is_rotary(node):
            _check_rotary(node, binding)
    for value in (*model.graph.input, *model.graph.output):
        binding.dims(value.name)


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attribute.g)


def _check_matmul(
    node: onnx.NodeProto, types: Mapping[str, TensorType], soc: str, precision: str
) -> None:
    # Cube cores of 310P multiply float16 and int8 only: runtime, Ascend310P3.ini, mmad. The real
    # compiler may instead fall back to the AI CPU; being refused here keeps that from happening.
    elements = {types[name].element for name in node.input[:2] if name in types}
    if soc.startswith("Ascend310P") and precision == "origin" and TensorProto.FLOAT in elements:
        raise inner_error(f"No supported AI Core kernel: op {node.name}, BatchMatMulV2, DT_FLOAT.")


def _check_rms_norm(node: onnx.NodeProto, types: Mapping[str, TensorType]) -> None:
    if len(node.input) != 2:
        raise _unsupported(node, "RmsNorm takes x and gamma")
    x, gamma = (types.get(name) for name in node.input)
    if x and gamma and x.element != gamma.element:
        raise _unsupported(node, "gamma must have the type of x")
    if x and x.element not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        raise _unsupported(node, "x must be a floating point number")


def _check_rotary(node: onnx.NodeProto, binding: Binding) -> None:
    """The limits of the pages of npu_rotary_mul and RotaryMul, the narrowest of each."""
    if len(node.input) != 3 or node.attribute:
        raise _unsupported(node, "RotaryMul takes x, cosines and sines and has no attribute here")
    batch, rows, heads, size = binding.dims(node.input[0])
    if size % 64 or size > 896 or heads > 1000 or batch > 1000:
        raise _unsupported(node, f"x is {[batch, rows, heads, size]}")
    for name in node.input[1:]:
        if binding.dims(name) != (1, rows, 1, size):
            raise _unsupported(node, f"a table is {list(binding.dims(name))}")
    if batch * heads > 1024:
        raise _unsupported(node, "a table is spread over more than 1024")


def _check_weight_quant(
    node: onnx.NodeProto,
    binding: Binding,
    soc: str,
    constants: set[str],
    transposes: list[onnx.NodeProto],
) -> None:
    """310P and 910B: ops-nn, weight_quant_batch_matmul_v2_def.cpp and the page of the operator."""
    if soc.startswith("Ascend310B"):
        raise _unsupported(node, f"{soc} has no kernel for it")
    if len(node.input) < 3:
        raise _unsupported(node, "x, weight and antiquant_scale are required")
    names = dict(zip(("x", "weight", "scale", "offset"), node.input, strict=False))
    types = {key: binding.types[name] for key, name in names.items() if name in binding.types}
    is_310p = soc.startswith("Ascend310P")
    x, weight, scale = types["x"], types["weight"], types["scale"]
    floats = [TensorProto.FLOAT16] if is_310p else [TensorProto.FLOAT16, TensorProto.BFLOAT16]
    integers = [TensorProto.INT8] if is_310p else [TensorProto.INT8, TensorProto.INT4]
    if x.element not in floats or scale.element != x.element:
        raise _unsupported(node, f"x is {type_name(x.element)}, scale {type_name(scale.element)}")
    turned = {node.output[0] for node in transposes if node.input[0] in constants}
    if is_310p:
        _check_turned(node, names["weight"] in turned)
    if weight.element not in integers or names["weight"] not in constants | turned:
        raise _unsupported(node, f"weight is {type_name(weight.element)} or no constant")
    rows, matrix = binding.dims(names["x"]), binding.dims(names["weight"])
    # The ONNX plugin sends 2-D tensors; x with a batch is allowed by the page, up to 6 dims.
    if not 2 <= len(rows) <= 6 or len(matrix) != 2 or rows[-1] != matrix[0]:
        raise _unsupported(node, f"x is {list(rows)}, weight {list(matrix)}")
    k, n = matrix
    if max(k, n) > MAX_WEIGHT_DIM:
        raise _unsupported(node, f"k={k} and n={n} must not exceed {MAX_WEIGHT_DIM}")
    group = _group_size(node, k)
    allowed = [(-(-k // group), n)] if group else [(1,), (1, 1), (n,), (n, 1)]
    for key in ("scale", "offset"):
        if key in types and binding.dims(names[key]) not in allowed:
            raise _unsupported(node, f"{key} must have one of the shapes {allowed}")


def _group_size(node: onnx.NodeProto, k: int) -> int:
    group = int_attribute(node, "antiquant_group_size", 0)
    if group and (group % 32 or not 32 <= group <= k - 1):
        raise _unsupported(node, f"antiquant_group_size {group} is no multiple of 32 in [32, k-1]")
    return group


def _check_turned(node: onnx.NodeProto, turned: bool) -> None:
    """310P has a tiling for a transposed weight only: op_host, weight_nz_tiling, IsCapable.

    The flag comes from a Transpose before the weight: op_graph/fusion_pass of the operator.
    """
    if not turned:
        raise _unsupported(node, "no tiling for transpose_weight = false")


def _unsupported(node: onnx.NodeProto, reason: str) -> AtcError:
    return inner_error(f"Op {node.name}, type {node.op_type}, is not supported: {reason}.")
