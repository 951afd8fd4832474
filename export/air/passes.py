"""A program in operators of ours -> the program that a chip's kernels fit: fewer, larger nodes.

Each pass takes the flat graph of an exported program; placeholders carry the names of tensors.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import Argument

from export.air.weights import Weight
from export.operators import add_rms_norm, linear, swiglu  # noqa: F401 (they define operators)

__all__ = ["chip_passes"]

ATEN, OURS = torch.ops.aten, torch.ops.alpaca2


def chip_passes(module: GraphModule, names: Sequence[str], weights: Sequence[Weight]) -> list[str]:
    """Changes the module in place.

    Args:
        module: its placeholders are those of `names`, in their order.
        names: of all inputs, each parameter by itself.
        weights: what the inputs shall be instead of parameters.

    Returns:
        The names of the inputs, in the new order.
    """
    graph = module.graph
    placeholders = dict(zip(names, graph.find_nodes(op="placeholder"), strict=True))
    _drop_assertions(graph)
    stored = _join_linears(graph, placeholders, weights)
    _join_gate(graph)
    _fuse_norms(graph)
    graph.eliminate_dead_code()
    parts = {part for weight in weights for part in weight.parts}
    unused = [name for name in parts if not placeholders[name].users]
    for name in unused:
        graph.erase_node(placeholders.pop(name))
    graph.lint()
    module.recompile()
    return [*placeholders, *stored]


def _drop_assertions(graph: Graph) -> None:
    for node in graph.find_nodes(op="call_function", target=ATEN._assert_tensor_metadata.default):
        graph.erase_node(node)


def _join_linears(
    graph: Graph, placeholders: Mapping[str, Node], weights: Iterable[Weight]
) -> list[str]:
    """Products with parameters -> products with weights as they are stored, cut where joined."""
    name_of = {node: name for name, node in placeholders.items()}
    products = {
        name_of[node.args[1]]: node
        for node in graph.find_nodes(op="call_function", target=ATEN.linear.default)
    }
    # A tied embedding is both a table and, where that is quantised, the source of another weight.
    by_part = {part: weight for weight in weights for part in weight.parts if part in products}
    stored: list[str] = []
    for weight in dict.fromkeys(by_part.values()):
        nodes = [products[part] for part in weight.parts]
        with graph.inserting_before(nodes[0]):
            given = [_weight_input(graph, placeholders, file.name) for file in weight.files]
            product = _product(graph, nodes[0].args[0], given, weight.group_size)
            cut = _cut(graph, product, weight.sizes) if len(nodes) > 1 else [product]
            cut = [_with_bias(graph, node, part) for node, part in zip(nodes, cut, strict=True)]
        for node, part in zip(nodes, cut, strict=True):
            node.replace_all_uses_with(part)
            graph.erase_node(node)
        stored += [file.name for file in weight.files if file.name not in placeholders]
    return stored


def _with_bias(graph: Graph, layer: Node, product: Node) -> Node:
    """The product with what the linear layer adds to it."""
    bias = layer.args[2] if len(layer.args) > 2 else None
    return product if bias is None else graph.call_function(ATEN.add.Tensor, (product, bias))


def _weight_input(graph: Graph, placeholders: Mapping[str, Node], name: str) -> Node:
    """The input of this name; a new one is the last of all."""
    if name in placeholders:
        return placeholders[name]
    last = list(graph.find_nodes(op="placeholder"))[-1]
    with graph.inserting_after(last):
        return graph.placeholder(name.replace(".", "_"))


def _product(graph: Graph, x: Argument, given: Sequence[Node], group_size: int | None) -> Node:
    if group_size is None:
        return graph.call_function(OURS.linear.default, (x, *given))
    return graph.call_function(OURS.linear_int8.default, (x, *given, group_size))


def _cut(graph: Graph, product: Node, sizes: Sequence[int]) -> list[Node]:
    parts = graph.call_function(ATEN.split_with_sizes.default, (product, list(sizes), -1))
    return [graph.call_function(operator.getitem, (parts, i)) for i in range(len(sizes))]


def _join_gate(graph: Graph) -> None:
    """swiglu(gate, up) -> swiglu_joined of the product that gave both."""
    for node in graph.find_nodes(op="call_function", target=OURS.swiglu.default):
        gate = node.args[0]
        assert isinstance(gate, Node), "a part of the product"
        parts = gate.args[0]
        assert isinstance(parts, Node), "its cut"
        with graph.inserting_before(node):
            joined = graph.call_function(OURS.swiglu_joined.default, (parts.args[0],))
        node.replace_all_uses_with(joined)
        graph.erase_node(node)


def _fuse_norms(graph: Graph) -> None:
    """rms_norm(x + y) -> add_rms_norm(x, y), whose second result is x + y."""
    for node in graph.find_nodes(op="call_function", target=OURS.rms_norm.default):
        added, *rest = node.args
        assert isinstance(added, Node), "a norm is of something"
        if added.target is not ATEN.add.Tensor:
            continue
        with graph.inserting_before(node):
            both = graph.call_function(OURS.add_rms_norm.default, (*added.args, *rest))
            normed, total = (graph.call_function(operator.getitem, (both, i)) for i in range(2))
        node.replace_all_uses_with(normed)
        added.replace_all_uses_with(total)
        graph.erase_node(node)
        graph.erase_node(added)
