"""Computes a graph of GE operators on arrays; RefData are written where they lie."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tests.emulator.ge.call import Array, Call, Operator
from tests.emulator.ge.elementwise import ELEMENTWISE
from tests.emulator.ge.graph import Graph, Node, Source
from tests.emulator.ge.kernels import KERNELS
from tests.emulator.ge.products import PRODUCTS
from tests.emulator.ge.shapes import SHAPES

__all__ = ["CONSTANTS", "OPERATORS", "Constants", "GraphSession", "inputs_of"]

OPERATORS: Final[Mapping[str, Operator]] = {**ELEMENTWISE, **SHAPES, **PRODUCTS, **KERNELS}
CONSTANTS: Final = ("Const", "Constant", "FileConstant")
Constants = Mapping[str, tuple[Array, Callable[[], int]]]  # and how often its memory was written


class GraphSession:
    """A graph that is ready to run, with the interface that the emulated card needs.

    constants: each with a counter of writes to its memory. What is made of constants alone is
    kept until one of them is written.
    """

    def __init__(self, graph: Graph, constants: Constants) -> None:
        self._graph, self._constants = graph, constants
        self._kept: dict[tuple[str, ...], tuple[tuple[int, ...], Array]] = {}

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs in the order of the graph; `feeds` has the inputs by name."""
        values: dict[Source, Array] = {}
        for node in self._graph.nodes:
            values.update(self._results(node, values, feeds))
        return [values[source] for source in self._graph.outputs]

    def _results(
        self, node: Node, values: Mapping[Source, Array], feeds: Mapping[str, Array]
    ) -> dict[Source, Array]:
        if node.name in feeds:
            return {(node.name, 0): feeds[node.name]}
        if node.name in self._constants:
            return {(node.name, 0): self._constants[node.name][0]}
        if node.type == "NetOutput":
            return {}
        call = Call(node, inputs_of(node, values), self._memory(node))
        results = OPERATORS[node.type].compute(call)
        return {(node.name, index): result for index, result in enumerate(results)}

    def _memory(self, node: Node) -> Any:
        def remembered(names: tuple[str, ...], make: Callable[[], Array]) -> Array:
            sources = [node.source(name) for name in names]
            origins = tuple(source[0] for source in sources if source is not None)
            if any(name not in self._constants for name in origins):
                return make()
            versions = tuple(self._constants[name][1]() for name in origins)
            found = self._kept.get(origins)
            if found is None or found[0] != versions:
                found = self._kept[origins] = (versions, make())
            return found[1]

        return remembered


def inputs_of(node: Node, values: Mapping[Source, Array]) -> dict[str, Array]:
    """What goes into a node, by name, as far as it is known."""
    pairs = zip(node.input_names, node.sources, strict=True)
    return {
        name: values[source] for name, source in pairs if source is not None and source in values
    }
