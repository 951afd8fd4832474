"""Linear layers with int8 weights and float16 activations (W8A16)."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from toolchain.targets.ascend.graph_edit import constant, insert_after, linear_weight, new_value
from toolchain.targets.streamed import register, streamed

__all__ = ["WeightQuant", "quantize_columns"]

LEVELS = 127  # symmetric; -128 is left out, so that no entry is cut off
COLUMN_BYTES = 1 << 21  # of float16 rows of the transpose in one thread's hands


def quantize_columns(
    weight: NDArray[np.generic], group_size: int
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Symmetric round-to-nearest quantisation along the input dimension.

    The scale is rounded to float16 first and the levels are those closest with that scale.

    Args:
        weight: (K, N), input rows and output columns.
        group_size: inputs that share a scale.

    Returns:
        Levels, int8 (K, N); scales, float16 (ceil(K / group_size), N): weight ~ level * scale.
    """
    starts = np.arange(0, len(weight), group_size)
    wide = weight.astype(np.float32)
    scales = (np.maximum.reduceat(np.abs(wide), starts) / LEVELS).astype(np.float16)
    per_row = np.repeat(scales.astype(np.float32), group_size, axis=0)[: len(wide)]
    levels = np.divide(wide, per_row, out=np.zeros_like(wide), where=per_row != 0)
    return np.clip(np.rint(levels), -LEVELS, LEVELS).astype(np.int8), scales


class WeightQuant(ir.passes.InPlacePass):
    """MatMul(x, Transpose(weight)) -> npu::WeightQuantBatchMatmulV2(x, levels, scales).

    The kernel takes matrices, so the rows of all sequences are flattened before and parted after.

    1. levels are int8 (K, N), scales float16 (N,) or (ceil(K / block_size), N).
    2. A layer with fewer inputs than one group has one scale per output, as block_size 0 gives.

    Source: ops-nn, matmul/weight_quant_batch_matmul_v2: its ONNX plugin and documents.
    """

    def __init__(self, block_size: int) -> None:
        super().__init__()
        self.block_size = block_size

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites in place."""
        linears = [node for node in model.graph if linear_weight(node) is not None]
        for node in linears:
            _quantize(model.graph, node, self.block_size)
        model.opset_imports["npu"] = 1
        return ir.passes.PassResult(model, modified=bool(linears))


def _quantize(graph: ir.Graph, node: ir.Node, block_size: int) -> None:
    weight, x, out = linear_weight(node), node.inputs[0], node.outputs[0]
    assert weight is not None, "the caller looked"
    assert x is not None, "MatMul has two inputs"
    assert x.shape is not None, "portable shapes are known"
    assert out.shape is not None, "portable shapes are known"
    num_outputs, num_inputs = weight.shape.numpy()
    group_size = block_size if 0 < block_size < num_inputs else 0
    num_groups = -(-num_inputs // group_size) if group_size else 1
    scales_shape = (num_groups, num_outputs) if group_size else (num_outputs,)
    stem = f"{weight.name}.int8"
    levels, scales = streamed(
        {
            stem: (ir.DataType.INT8, (num_inputs, num_outputs)),
            f"{stem}.scales": (ir.DataType.FLOAT16, scales_shape),
        },
        lambda: _blocks(weight, group_size),
    )
    rows = [dim for dim in x.shape.dims[:-1] if isinstance(dim, int)]
    flat = ir.node(
        "Reshape",
        [x, constant(graph, f"{node.name}.flat", [-1, num_inputs])],
        name=f"{node.name}/flat",
    )
    new_value(flat.outputs[0], ir.DataType.FLOAT16, (int(np.prod(rows)), num_inputs))
    product = ir.node(
        "WeightQuantBatchMatmulV2",
        [flat.outputs[0], register(graph, levels), register(graph, scales)],
        {"antiquant_group_size": group_size},
        domain="npu",
        name=str(node.name),
    )
    new_value(product.outputs[0], ir.DataType.FLOAT16, (int(np.prod(rows)), num_outputs))
    parted = ir.node(
        "Reshape",
        [product.outputs[0], constant(graph, f"{node.name}.rows", [rows[0], -1, num_outputs])],
        name=f"{node.name}/rows",
    )
    new_value(parted.outputs[0], ir.DataType.FLOAT16, tuple(out.shape.numpy()))
    insert_after(graph, node, [flat, product, parted])
    ir.convenience.replace_all_uses_with(out, parted.outputs[0])
    graph.remove(node, safe=True)


def _blocks(
    weight: ir.ExternalTensor, group_size: int
) -> Iterator[tuple[NDArray[np.generic], ...]]:
    """Rows of the transpose with the scales that end in them; the file is mapped, not read whole.

    Without groups every scale needs the whole column, so the file is read twice.
    """
    array = weight.numpy()  # (N, K)
    num_outputs, num_inputs = array.shape
    width = max(1, COLUMN_BYTES // (2 * num_outputs))
    if group_size:
        step = max(1, width // group_size) * group_size
        for start in range(0, num_inputs, step):
            yield quantize_columns(array[:, start : start + step].T, group_size)
        return
    height = max(1, COLUMN_BYTES // (2 * num_inputs))
    parts = [
        quantize_columns(array[start : start + height].T, num_inputs)[1][0]
        for start in range(0, num_outputs, height)
    ]
    scales = np.concatenate(parts)
    wide = scales.astype(np.float32)
    for start in range(0, num_inputs, width):
        rows = array[:, start : start + width].T.astype(np.float32)
        levels = np.divide(rows, wide, out=np.zeros_like(rows), where=wide != 0)
        bounded = np.clip(np.rint(levels), -LEVELS, LEVELS).astype(np.int8)
        yield bounded, scales if start == 0 else scales[:0]
