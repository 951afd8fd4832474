"""What a rule of a chip is, and how rules look at a graph."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from toolchain.targets.ascend.chips import AscendChip

__all__ = ["FLOATS", "Problem", "Rule", "dims", "given", "node_name", "values"]

FLOATS = (ir.DataType.FLOAT16, ir.DataType.FLOAT)


@dataclass(frozen=True, slots=True)
class Problem:
    """What breaks a rule: the node or value, what it has, and what it might have."""

    where: str
    got: str
    allowed: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule by name, and what finds the problems of a graph."""

    name: str
    problems: Callable[[ir.Model, AscendChip], Iterator[Problem]]


def values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Inputs, initializers and what every node gives."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def given(node: ir.Node, position: int) -> ir.Value:
    """An input that is not optional."""
    value = node.inputs[position]
    assert value is not None, "the kernel has this input"
    return value


def dims(value: ir.Value) -> tuple[int, ...]:
    """The static shape."""
    assert value.shape is not None, "rules run on graphs whose shapes are known"
    return tuple(value.shape.numpy())


def node_name(node: ir.Node) -> str:
    """For messages."""
    return f"node {node.name}"
