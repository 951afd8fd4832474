"""Weight-only quantisation: every linear layer, the LM head included, becomes MatMulNBits."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from toolchain.targets.cpu.streamed import register, row_blocks, streamed

__all__ = ["QuantizeWeights", "dequantize_blocks", "quantize_blocks"]

# Activations are quantised to int8 inside the kernel: the fastest form on AVX-512 VNNI.
ACCURACY_LEVEL = 4


def quantize_blocks(
    weight: NDArray[np.generic], bits: int, block_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Symmetric round-to-nearest quantisation in blocks along the input dimension.

    As in ggml's Q4_0: the scale is the entry of largest magnitude over -2^(bits-1), so that this
    entry is met exactly and all 2^bits levels are used.

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
    zero_point = 1 << (bits - 1)
    scales = np.where(highest > -lowest, highest, lowest) / np.float32(-zero_point)
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales != 0)
    # From 0.5 to 2^bits + 0.5, so cutting the fraction off rounds to nearest.
    shifted = blocks * inverse[:, None] + np.float32(zero_point + 0.5)
    packed = np.minimum(shifted, 2 * zero_point - 1, out=shifted).astype(np.uint8)
    if bits == 4:
        pairs = packed.view("<u2")  # one nibble per byte, the lower one first
        packed = (pairs | pairs >> np.uint16(4)).astype(np.uint8)
    return packed.reshape(num_rows, -1, block_size * bits // 8), scales.reshape(num_rows, -1)


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
    """MatMul(x, Transpose(weight)) -> com.microsoft.MatMulNBits(x, levels, scales)."""

    def __init__(self, bits: int, block_size: int) -> None:
        super().__init__()
        self.bits = bits
        self.block_size = block_size

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites in place."""
        linears = [node for node in model.graph if _linear_weight(node) is not None]
        for node in linears:
            self._replace(model.graph, node)
        model.opset_imports["com.microsoft"] = 1
        return ir.passes.PassResult(model, modified=bool(linears))

    def _replace(self, graph: ir.Graph, node: ir.Node) -> None:
        weight = _linear_weight(node)
        assert weight is not None, "the caller looked"
        num_rows, num_columns = weight.shape.numpy()
        num_blocks = -(-num_columns // self.block_size)
        levels, scales = self._initializers(graph, weight, num_rows, num_blocks)
        quantized = ir.node(
            "MatMulNBits",
            [node.inputs[0], levels, scales],
            {
                "K": num_columns,
                "N": num_rows,
                "bits": self.bits,
                "block_size": self.block_size,
                "accuracy_level": ACCURACY_LEVEL,
            },
            domain="com.microsoft",
            name=node.name,
        )
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], [quantized], node.outputs, quantized.outputs
        )

    def _initializers(
        self, graph: ir.Graph, weight: ir.ExternalTensor, num_rows: int, num_blocks: int
    ) -> tuple[ir.Value, ir.Value]:
        blob = (num_rows, num_blocks, self.block_size * self.bits // 8)
        stem = f"{weight.name}.int{self.bits}"
        levels, scales = streamed(
            {
                stem: (ir.DataType.UINT8, blob),
                f"{stem}.scales": (ir.DataType.FLOAT, blob[:2]),
            },
            lambda: (
                quantize_blocks(rows, self.bits, self.block_size) for rows in row_blocks(weight)
            ),
        )
        return register(graph, levels), register(graph, scales)


def _linear_weight(node: ir.Node) -> ir.ExternalTensor | None:
    """The weight of a linear layer: the second factor, transposed, straight from a file."""
    if node.op_type != "MatMul" or node.inputs[1] is None:
        return None
    transpose = node.inputs[1].producer()
    if transpose is None or transpose.op_type != "Transpose" or transpose.inputs[0] is None:
        return None
    tensor = transpose.inputs[0].const_value
    return tensor if isinstance(tensor, ir.ExternalTensor) else None
