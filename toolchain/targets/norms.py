"""The norms of a portable graph, written out in float32."""

from dataclasses import dataclass

import onnx_ir as ir

from runtime.bundle.node_names import module_of, norm_parts

__all__ = ["Norm", "find_norms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """last * gamma = x / sqrt(mean(x * x) + epsilon) * gamma.

    x: the input, in float32.
    last: the node that multiplies with gamma.
    """

    x: ir.Value
    gamma: ir.Value
    epsilon: float
    last: ir.Node


def find_norms(graph: ir.Graph) -> dict[str, Norm]:
    """The norms by module: all that take a mean and have the nodes that say what of."""
    nodes = {str(node.name): node for node in graph}
    means = (name for name, node in nodes.items() if node.op_type == "ReduceMean")
    modules = list(map(module_of, means))
    return {
        module: _norm(*(nodes[name] for name in norm_parts(module)))
        for module in modules
        if nodes.keys() >= set(norm_parts(module))
    }


def _norm(square: ir.Node, added: ir.Node, last: ir.Node) -> Norm:
    gamma = next(value for value in last.inputs if value is not None and value.is_initializer())
    [epsilon] = [value.const_value for value in added.inputs if value and value.is_initializer()]
    x = square.inputs[0]
    assert epsilon is not None, "an initializer has a value"
    assert x is not None, "Mul has two inputs"
    return Norm(x=x, gamma=gamma, epsilon=float(epsilon.numpy()), last=last)
