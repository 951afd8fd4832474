"""Weight-only quantisation: every linear layer, the LM head included, becomes MatMulNBits."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.expect import expect
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import LM_HEAD, linears
from toolchain.targets.weights import find_linears, linear_weight, register, row_blocks, streamed

__all__ = ["QuantizeWeights", "dequantize_blocks", "quantize_blocks"]

# Activations are quantised to int8 inside the kernel: the fastest form on AVX-512 VNNI.
ACCURACY_LEVEL = 4
# How far beyond the lowest level int4 may put the largest entry, to be cut off there; less than
# 1.5 levels, so that no level falls under 0.
CUT_OFF = 1.12


def quantize_blocks(
    weight: NDArray[np.generic], bits: int, block_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Symmetric round-to-nearest quantisation in blocks along the input dimension.

    The entry of largest magnitude is put on level -2^(bits-1), as in ggml's Q4_0, or in int4 cut
    off a little beyond it where that is closer in the mean square; the scale is then the one that
    is closest for the levels found.

    Args:
        weight: (N, K), output rows and input columns.
        bits: 4 or 8.
        block_size: input columns that share a scale; K is padded with zeros to a multiple.

    Returns:
        Packed levels, uint8 (N, K / block_size, block_size * bits / 8), lower nibble first, with
        zero point 2^(bits-1); and scales, float32 (N, K / block_size).
    """
    num_rows, num_columns = weight.shape
    padded = np.pad(weight.astype(np.float32), ((0, 0), (0, -num_columns % block_size)))
    blocks = padded.reshape(-1, block_size)
    columns = np.ascontiguousarray(blocks.T)  # numpy reduces long rows several times faster
    highest, lowest = columns.max(0), columns.min(0)
    largest = np.where(highest > -lowest, highest, lowest)
    levels, scales, gain = _fit(blocks, largest, bits, 1.0)
    if bits == 4:
        cut_levels, cut_scales, cut_gain = _fit(blocks, largest, bits, CUT_OFF)
        better = cut_gain > gain
        levels = np.where(better[:, None], cut_levels, levels)
        scales = np.where(better, cut_scales, scales)
        pairs = levels.view("<u2")  # one nibble per byte, the lower one first
        levels = (pairs | pairs >> np.uint16(4)).astype(np.uint8)
    return levels.reshape(num_rows, -1, block_size * bits // 8), scales.reshape(num_rows, -1)


def _fit(
    blocks: NDArray[np.float32], largest: NDArray[np.float32], bits: int, cut_off: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Levels where the largest entry lies at cut_off times the lowest level.

    Returns:
        Levels, uint8 (blocks, block_size); the scale of least squares sum(xq) / sum(qq); and the
        part of sum(xx) that it explains, sum(xq)^2 / sum(qq).
    """
    zero_point = 1 << (bits - 1)
    inverse = np.divide(
        -zero_point * cut_off, largest, out=np.zeros_like(largest), where=largest != 0
    )
    # Cutting the fraction off rounds to nearest; what is below zero by less than one becomes 0.
    shifted = blocks * inverse[:, None] + np.float32(zero_point + 0.5)
    levels = np.minimum(shifted, 2 * zero_point - 1, out=shifted).astype(np.uint8)
    centred = np.subtract(levels, np.float32(zero_point), out=shifted)
    products = np.einsum("ij,ij->i", blocks, centred)
    squares = np.einsum("ij,ij->i", centred, centred)
    scales = np.divide(products, squares, out=np.zeros_like(products), where=squares != 0)
    return levels, scales, products * scales


def dequantize_blocks(
    packed: NDArray[np.uint8], scales: NDArray[np.float32], bits: int
) -> NDArray[np.float32]:
    """The weights that the packed form stands for, float32 (N, K padded)."""
    levels = packed
    if bits == 4:
        levels = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
    centred = levels.astype(np.float32) - (1 << (bits - 1))
    return (centred * scales[..., None]).reshape(len(packed), -1)


class QuantizeWeights(ir.passes.InPlacePass):
    """MatMul(x, Transpose(weight)) -> com.microsoft.MatMulNBits(x, levels, scales).

    The LM head, whose error reaches the logits undamped, may have more bits than the layers.
    Expects 7 L + 1 products.
    """

    def __init__(self, config: ModelConfig, bits: int, block_size: int, head_bits: int) -> None:
        super().__init__()
        self.config = config
        self.bits = bits
        self.block_size = block_size
        self.head_bits = head_bits

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        found = expect(find_linears(model.graph), linears(self.config.num_hidden_layers))
        for name, node in found.items():
            bits = self.head_bits if name == LM_HEAD else self.bits
            _quantize(model.graph, node, bits, self.block_size)
        model.opset_imports["com.microsoft"] = 1
        return ir.passes.PassResult(model, modified=True)


def _quantize(graph: ir.Graph, node: ir.Node, bits: int, block_size: int) -> None:
    weight = linear_weight(node)
    assert weight is not None, "the caller looked"
    num_rows, num_columns = weight.shape.numpy()
    blob = (num_rows, -(-num_columns // block_size), block_size * bits // 8)
    stem = f"{weight.name}.int{bits}"
    levels, scales = streamed(
        {stem: (ir.DataType.UINT8, blob), f"{stem}.scales": (ir.DataType.FLOAT, blob[:2])},
        lambda: (quantize_blocks(rows, bits, block_size) for rows in row_blocks(weight)),
    )
    quantized = ir.node(
        "MatMulNBits",
        [node.inputs[0], register(graph, levels), register(graph, scales)],
        {
            "K": num_columns,
            "N": num_rows,
            "bits": bits,
            "block_size": block_size,
            "accuracy_level": ACCURACY_LEVEL,
        },
        domain="com.microsoft",
        name=node.name,
    )
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], [quantized], node.outputs, quantized.outputs
    )
