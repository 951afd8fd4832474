"""Weight-only quantisation: every linear layer, the LM head included, becomes MatMulNBits."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.expect import expect
from profiles import Fineness, Profile, layer_kind
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import LM_HEAD, linears, module_of
from toolchain.targets.cpu.blocks import quantize_blocks
from toolchain.targets.weights import find_linears, linear_weight, register, row_blocks, streamed

__all__ = ["QuantizeWeights", "Rounding", "to_nearest"]

# Activations are quantised to int8 inside the kernel: the fastest form on AVX-512 VNNI.
ACCURACY_LEVEL = 4

# Levels and scales of the next rows of a weight, as quantize_blocks gives them, to the last row.
QuantizedRows = Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]
Rounding = Callable[[ir.ExternalTensor, Fineness], QuantizedRows]


def to_nearest(weight: ir.ExternalTensor, fineness: Fineness) -> QuantizedRows:
    """Each weight to its nearest level."""
    return (quantize_blocks(rows, *fineness) for rows in row_blocks(weight))


class QuantizeWeights(ir.passes.InPlacePass):
    """MatMul(x, Transpose(weight)) -> com.microsoft.MatMulNBits(x, levels, scales).

    Expects 7 L + 1 products.

    Args:
        config: the model.
        profile: says how finely each kind of layer is quantised.
        rounding: of the layers; the LM head's weights go to the nearest level.
    """

    def __init__(
        self, config: ModelConfig, profile: Profile, rounding: Rounding = to_nearest
    ) -> None:
        super().__init__()
        self.config, self.profile, self.rounding = config, profile, rounding

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        found = expect(find_linears(model.graph), linears(self.config.num_hidden_layers))
        for name, node in found.items():
            rounding = to_nearest if name == LM_HEAD else self.rounding
            fineness = self.profile.fineness(layer_kind(module_of(name)))
            _quantize(model.graph, node, fineness, rounding)
        model.opset_imports["com.microsoft"] = 1
        return ir.passes.PassResult(model, modified=True)


def _quantize(graph: ir.Graph, node: ir.Node, fineness: Fineness, rounding: Rounding) -> None:
    weight = linear_weight(node)
    assert weight is not None, "the caller looked"
    num_rows, num_columns = weight.shape.numpy()
    bits, block_size = fineness
    blob = (num_rows, -(-num_columns // block_size), block_size * bits // 8)
    stem = f"{weight.name}.int{bits}"
    levels, scales = streamed(
        {stem: (ir.DataType.UINT8, blob), f"{stem}.scales": (ir.DataType.FLOAT, blob[:2])},
        lambda: rounding(weight, fineness),
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
