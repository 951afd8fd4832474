"""Linear layers with kernels of our own, which read weights where they are mapped."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.expect import find
from runtime.bundle.hashing_writer import Buffer, WeightJob
from runtime.bundle.node_names import LM_HEAD
from runtime.kernels.layout import DOMAIN, OPERATOR, TILE_ROWS
from toolchain.targets.cpu.tiles import tiled
from toolchain.targets.weights import StreamedTensor, register

__all__ = ["OwnKernels", "whole_tiles"]

WITHOUT_ZERO_POINTS = 3  # inputs: what is multiplied, levels, scales


class OwnKernels(ir.passes.InPlacePass):
    """com.microsoft.MatMulNBits -> alpaca2.TiledMatMul.

    1. Levels are laid out in tiles of rows, as the kernels of every instruction set read them.
    2. Scales become float16 beside them.

    Products with zero points stay as they are: our kernels have one, in the middle.

    Expects the LM head's product.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        find(model.graph, [LM_HEAD])
        products = [node for node in model.graph if node.op_type == "MatMulNBits"]
        for node in [node for node in products if len(node.inputs) == WITHOUT_ZERO_POINTS]:
            _replace(model.graph, node)
        model.opset_imports[DOMAIN] = 1
        return ir.passes.PassResult(model, modified=True)


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    attributes = {name: node.attributes[name].as_int() for name in ("K", "N", "bits", "block_size")}
    levels, scales = _tensors(node.inputs[1], attributes["bits"])
    product = ir.node(
        OPERATOR,
        [node.inputs[0], register(graph, levels), register(graph, scales)],
        attributes,
        domain=DOMAIN,
        name=node.name,
    )
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], [product], node.outputs, product.outputs
    )


def _tensors(packed: ir.Value | None, bits: int) -> tuple[StreamedTensor, StreamedTensor]:
    """Levels and scales in tiles, made from what makes those of MatMulNBits."""
    assert packed is not None, "the product has weights"
    source = packed.const_value
    assert isinstance(source, StreamedTensor), "quantize_weights made it"
    num_rows, num_blocks, width = map(int, source.shape.numpy())

    def chunks() -> Iterator[tuple[Buffer, ...]]:
        for levels, scales in whole_tiles(source.job.chunks(), (num_blocks, width)):
            arrays = tiled(levels, scales, bits)
            yield tuple(array.reshape(-1).view(np.uint8).data for array in arrays)

    job = WeightJob(names=tuple(f"{name}.tiles" for name in source.job.names), chunks=chunks)
    num_tiles = -(-num_rows // TILE_ROWS)
    return (
        StreamedTensor(job, 0, ir.DataType.UINT8, (num_tiles, num_blocks, TILE_ROWS * width)),
        StreamedTensor(job, 1, ir.DataType.FLOAT16, (num_tiles, num_blocks, TILE_ROWS)),
    )


def whole_tiles(
    chunks: Iterator[Sequence[Buffer]], row: tuple[int, int]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Rows as they come, regrouped so that only the last group does not fill its tiles."""
    levels = np.empty((0, *row), np.uint8)
    scales = np.empty((0, row[0]), np.float32)
    for new_levels, new_scales in chunks:
        added = np.frombuffer(new_levels, np.uint8).reshape(-1, *row)
        levels = np.concatenate([levels, added])
        scales = np.concatenate([scales, np.frombuffer(new_scales, np.float32).reshape(-1, row[0])])
        whole = len(levels) // TILE_ROWS * TILE_ROWS
        if whole:
            yield levels[:whole], scales[:whole]
            levels, scales = levels[whole:], scales[whole:]
    if len(levels):
        yield levels, scales
