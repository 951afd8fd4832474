"""Memory that is written in place: who reads it must be ordered against who writes it.

GE runs an operator when what it waits for is done, and nothing but edges says what that is.
"""

from typing import Final

from tests.emulator.atc_errors import inner_error
from tests.emulator.ge.graph import Graph, Node, Source

__all__ = ["check_order"]

WRITERS: Final = {"Scatter": "var", "Assign": "ref"}  # and the input that each writes


def check_order(graph: Graph) -> None:
    """Refuses a graph in which a RefData is read and written without an order.

    Raises:
        AtcError: the real compiler may run the two in any order; that it stops is our caution.
    """
    before = _before(graph)
    users: dict[str, list[Node]] = {n.name: [] for n in graph.nodes if n.type == "RefData"}
    memory: dict[Source, str] = {(name, 0): name for name in users}
    for node in graph.nodes:
        for source in node.sources:
            if source in memory:
                users[memory[source]].append(node)
        written = node.source(WRITERS.get(node.type, ""))
        if written is not None and written in memory:
            memory[node.name, 0] = memory[written]
    for name, found in users.items():
        for writer in (node for node in found if memory.get((node.name, 0)) == name):
            for other in found:
                if other is not writer and not _ordered(writer, other, before):
                    raise inner_error(
                        f"{writer.name} writes {name}, {other.name} reads it any time."
                    )


def _before(graph: Graph) -> dict[str, int]:
    """For each node the set of nodes that it waits for, as the bits of a number."""
    places = {node.name: 1 << number for number, node in enumerate(graph.nodes)}
    found: dict[str, int] = {}
    for node in graph.nodes:
        names = [source[0] for source in node.sources if source is not None]
        found[node.name] = places[node.name]
        for name in (*names, *node.after):
            found[node.name] |= found[name]
    return found


def _ordered(one: Node, other: Node, before: dict[str, int]) -> bool:
    both = before[one.name], before[other.name]
    return both[0] & both[1] in both  # one set holds the other
