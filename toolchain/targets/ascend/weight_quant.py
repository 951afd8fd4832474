"""Linear layers with int8 weights and float16 activations (W8A16)."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.expect import expect
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import linears
from toolchain.targets.ascend.graph_edit import constant, new_value, transpose
from toolchain.targets.weights import (
    StreamedTensor,
    find_linears,
    linear_weight,
    register,
    row_blocks,
    streamed,
)

__all__ = ["WeightQuant", "quantize_rows"]

LEVELS = 127  # symmetric; -128 is left out, so that no entry is cut off


def quantize_rows(
    weight: NDArray[np.generic], group_size: int
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Symmetric round-to-nearest quantisation along the inputs.

    The scale is rounded to float16 first and the levels are those closest with that scale.

    Args:
        weight: (N, K), output rows and input columns.
        group_size: inputs that share a scale.

    Returns:
        Levels, int8 (N, K); scales, float16 (N, ceil(K / group_size)): weight ~ level * scale.
    """
    num_inputs = weight.shape[1]
    wide = weight.astype(np.float32)
    largest = np.maximum.reduceat(np.abs(wide), np.arange(0, num_inputs, group_size), axis=1)
    scales = (largest / LEVELS).astype(np.float16)
    spread = np.repeat(scales.astype(np.float32), group_size, axis=1)[:, :num_inputs]
    levels = np.divide(wide, spread, out=np.zeros_like(wide), where=spread != 0)
    return np.clip(np.rint(levels), -LEVELS, LEVELS).astype(np.int8), scales


class WeightQuant(ir.passes.InPlacePass):
    """MatMul(x, Transpose(weight)) -> npu::WeightQuantBatchMatmulV2(x, Transpose(levels), scales).

    The kernel takes matrices, so the rows of all sequences are flattened before and parted after.

    1. levels are int8 (N, K) behind a Transpose, as the float16 weight was: the kernel of the 310P
       takes its weight that way round only, and a Transpose is how its fusion pass learns of it.
    2. scales are float16 (N,), or (N, ceil(K / block_size)) behind a Transpose.
    3. A layer with fewer inputs than one group has one scale per output, as block_size 0 gives.

    Source: ops-nn, matmul/weight_quant_batch_matmul_v2: its ONNX plugin, documents, op_host and
    op_graph/fusion_pass.

    Expects 7 L + 1 products.
    """

    def __init__(self, config: ModelConfig, block_size: int) -> None:
        super().__init__()
        self.config, self.block_size = config, block_size

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        found = expect(find_linears(model.graph), linears(self.config.num_hidden_layers))
        for node in found.values():
            _quantize(model.graph, node, self.block_size)
        model.opset_imports["npu"] = 1
        return ir.passes.PassResult(model, modified=True)


def _quantize(graph: ir.Graph, node: ir.Node, block_size: int) -> None:
    weight, x, out = linear_weight(node), node.inputs[0], node.outputs[0]
    assert weight is not None, "the caller looked"
    assert x is not None, "MatMul has two inputs"
    assert x.shape is not None, "portable shapes are known"
    assert out.shape is not None, "portable shapes are known"
    num_outputs, num_inputs = weight.shape.numpy()
    group_size = block_size if 0 < block_size < num_inputs else 0
    levels, scales = _promised(weight, group_size)
    batch_size, *_ = rows = x.shape.numpy()[:-1]
    num_rows = int(np.prod(rows))

    to_matrix = constant(graph, f"{node.name}.flat", [-1, num_inputs])
    flat = ir.node("Reshape", [x, to_matrix], name=f"{node.name}/flat")
    new_value(flat.outputs[0], ir.DataType.FLOAT16, (num_rows, num_inputs))
    turned = [transpose(register(graph, levels), (1, 0), f"{node.name}/levels")]
    scale = register(graph, scales)
    if group_size:
        turned.append(transpose(scale, (1, 0), f"{node.name}/scales"))
        scale = turned[-1].outputs[0]
    product = ir.node(
        "WeightQuantBatchMatmulV2",
        [flat.outputs[0], turned[0].outputs[0], scale],
        {"antiquant_group_size": group_size},
        domain="npu",
        name=str(node.name),
    )
    new_value(product.outputs[0], ir.DataType.FLOAT16, (num_rows, num_outputs))
    to_rows = constant(graph, f"{node.name}.rows", [batch_size, -1, num_outputs])
    parted = ir.node("Reshape", [product.outputs[0], to_rows], name=f"{node.name}/rows")
    new_value(parted.outputs[0], ir.DataType.FLOAT16, out.shape.numpy())
    graph.insert_after(node, [flat, *turned, product, parted])
    ir.convenience.replace_all_uses_with(out, parted.outputs[0])
    graph.remove(node, safe=True)


def _promised(weight: ir.ExternalTensor, group_size: int) -> list[StreamedTensor]:
    """Levels and scales, made from one reading of the weight when the files are written."""
    num_outputs, num_inputs = weight.shape.numpy()
    num_groups = -(-num_inputs // group_size) if group_size else 1
    scales_shape = (num_outputs, num_groups) if group_size else (num_outputs,)
    stem = f"{weight.name}.int8"

    def blocks() -> Iterator[tuple[NDArray[np.generic], ...]]:
        return (quantize_rows(rows, group_size or num_inputs) for rows in row_blocks(weight))

    return streamed(
        {
            stem: (ir.DataType.INT8, (num_outputs, num_inputs)),
            f"{stem}.scales": (ir.DataType.FLOAT16, scales_shape),
        },
        blocks,
    )
