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
from toolchain.targets.cpu.stored_levels import StoredLevels
from toolchain.targets.weights import (
    StreamedTensor,
    find_linears,
    linear_weight,
    register,
    row_blocks,
    streamed,
)

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

    Levels that the checkpoint came with are taken as they are, with zero points if it has any.

    Expects 7 L + 1 products.

    Args:
        config: the model.
        profile: says how finely each kind of layer is quantised.
        rounding: of the layers; the LM head's weights go to the nearest level.
        stored: levels that the checkpoint came with.
    """

    def __init__(
        self,
        config: ModelConfig,
        profile: Profile,
        rounding: Rounding = to_nearest,
        stored: StoredLevels | None = None,
    ) -> None:
        super().__init__()
        self.config, self.profile, self.rounding, self.stored = config, profile, rounding, stored

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        found = expect(find_linears(model.graph), linears(self.config.num_hidden_layers))
        for name, node in found.items():
            weight = linear_weight(node)
            assert weight is not None, "find_linears looked"
            fineness = self.profile.fineness(layer_kind(module_of(name)))
            stem = f"{weight.name}.int{fineness.bits}"
            if self.stored is not None and self.stored.has(weight.name, fineness):
                tensors = self.stored.tensors(weight, stem)
            else:
                rounding = to_nearest if name == LM_HEAD else self.rounding
                tensors = _rounded(weight, stem, fineness, rounding)
            _replace(model.graph, node, weight, fineness, tensors)
        model.opset_imports["com.microsoft"] = 1
        return ir.passes.PassResult(model, modified=True)


def _rounded(
    weight: ir.ExternalTensor, stem: str, fineness: Fineness, rounding: Rounding
) -> list[StreamedTensor]:
    """Levels and scales of a weight in float16."""
    num_rows, num_columns = weight.shape.numpy()
    bits, block_size = fineness
    blob = (num_rows, -(-num_columns // block_size), block_size * bits // 8)
    return streamed(
        {stem: (ir.DataType.UINT8, blob), f"{stem}.scales": (ir.DataType.FLOAT, blob[:2])},
        lambda: rounding(weight, fineness),
    )


def _replace(
    graph: ir.Graph,
    node: ir.Node,
    weight: ir.ExternalTensor,
    fineness: Fineness,
    tensors: list[StreamedTensor],
) -> None:
    num_rows, num_columns = weight.shape.numpy()
    quantized = ir.node(
        "MatMulNBits",
        [node.inputs[0], *(register(graph, tensor) for tensor in tensors)],
        {
            "K": num_columns,
            "N": num_rows,
            "bits": fineness.bits,
            "block_size": fineness.block_size,
            "accuracy_level": ACCURACY_LEVEL,
        },
        domain="com.microsoft",
        name=node.name,
    )
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], [quantized], node.outputs, quantized.outputs
    )
