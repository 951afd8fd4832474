"""What a call of a chip's program moves and computes, with a kernel for every node that works."""

import operator
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Node
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from export.air.program import chip_program
from export.air.weights import Quantisation
from runtime.bundle.manifest import Graph, ModelConfig

__all__ = ["ProgramKernel", "count_program"]

ATEN, OURS = torch.ops.aten, torch.ops.alpaca2
# Another shape, or a constant that is known before any call.
FREE = {
    *(ATEN.view.default, ATEN.unsqueeze.default, ATEN.squeeze.dim, ATEN.flatten.using_ints),
    *(ATEN.reshape.default, ATEN.movedim.int, ATEN.arange.default, ATEN.alias.default),
    operator.getitem,
}
PICKS = {ATEN.embedding.default, ATEN.index_select.default, ATEN.select.int}  # read what they write
PRODUCTS = {OURS.linear.default, OURS.linear_int8.default}


class ProgramKernel(NamedTuple):
    """A kernel: bytes read and written, and operations of a product, of which a vector has none."""

    name: str
    num_bytes: int
    operations: int


def count_program(
    config: ModelConfig, graph: Graph, quantisation: Quantisation | None
) -> list[ProgramKernel]:
    """The kernels of one call, whose attention reads as many rows as the graph's cache has.

    Rotation is one of them, as it is with heads of 128 numbers.

    Args:
        config: the model.
        graph: of chip_graph.
        quantisation: of the weights.
    """
    inputs, module = chip_program(config, graph, quantisation)
    with FakeTensorMode() as mode:
        tensors = [torch.empty(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs]
        FakeTensorProp(module, mode).propagate_dont_convert_inputs(*tensors)
    working = (node for node in module.graph.nodes if node.op == "call_function")
    return [_kernel(node, graph) for node in working if node.target not in FREE]


def _kernel(node: Node, graph: Graph) -> ProgramKernel:
    name, given = str(node.target).split(".")[1], _tensors(node)
    out = node.meta["val"]
    written = [out] if isinstance(out, Tensor) else list(out or ())
    if node.target is OURS.write_rows.default:
        return ProgramKernel(name, 2 * _bytes(given[1]), 0)
    if node.target is OURS.attend_newest.default:
        query, keys, _, _ = given
        rows = graph.spec.cache_len * keys.shape[0]
        cached = 2 * rows * prod(keys.shape[2:]) * keys.element_size()
        operations = 4 * rows * prod(query.shape[1:])
        return ProgramKernel(name, 2 * _bytes(query) + cached, operations)
    num_written = sum(map(_bytes, written))
    if node.target in PICKS:
        return ProgramKernel(name, 2 * num_written, 0)
    operations = 2 * written[0].numel() * given[0].shape[-1] if node.target in PRODUCTS else 0
    return ProgramKernel(name, sum(map(_bytes, given)) + num_written, operations)


def _tensors(node: Node) -> list[Tensor]:
    return [each.meta["val"] for each in node.all_input_nodes]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
