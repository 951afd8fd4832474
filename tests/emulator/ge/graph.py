"""A graph of GE operators, as the compiler loads it from an .air file.

Source: ge, graph_metadef/graph/serialization/model_serialize.cc.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from tests.emulator.atc_errors import AtcError, inner_error
from tests.emulator.ge.proto import new_model

__all__ = ["INPUTS", "Graph", "Node", "Source", "attribute", "graph_of", "read_air"]

MAX_BYTES: Final = 2**31 - 1  # ReadProtoFromBinaryFile: the length of a message is an int32
INPUTS: Final = ("Data", "RefData")
Source = tuple[str, int]  # node and output


@dataclass(frozen=True, slots=True)
class Node:
    """An operator: where each input comes from, None for an optional one that is not given."""

    name: str
    type: str
    sources: tuple[Source | None, ...]
    input_names: tuple[str, ...]
    after: tuple[str, ...]  # nodes that control edges come from
    attributes: Mapping[str, Any]
    proto: Any

    def source(self, name: str) -> Source | None:
        """Where the input of a name comes from."""
        pairs = zip(self.input_names, self.sources, strict=True)
        return next((source for found, source in pairs if found == name), None)


@dataclass(frozen=True)
class Graph:
    """The operators, each behind all that it waits for."""

    name: str
    nodes: tuple[Node, ...]

    @cached_property
    def inputs(self) -> tuple[Node, ...]:
        """Data and RefData by their attribute `index`; numbers that do not count up are replaced.

        ge, api/atc/main_impl.cc, CreateInputsForInference.
        """
        found = [node for node in self.nodes if node.type in INPUTS]
        indices = [node.attributes.get("index", -1) for node in found]
        if sorted(indices) != list(range(len(found))):
            return tuple(found)
        return tuple(node for _, node in sorted(zip(indices, found, strict=True), key=_first))

    @cached_property
    def outputs(self) -> tuple[Source, ...]:
        """What NetOutput takes."""
        ends = [node for node in self.nodes if node.type == "NetOutput"]
        return tuple(source for node in ends for source in node.sources if source is not None)


def read_air(path: Path) -> Any:
    """The ModelDef of a file.

    Raises:
        AtcError: it is none.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _not_loaded(path)
        model = new_model(path.read_bytes())
    except DecodeError as error:
        raise _not_loaded(path) from error
    if not model.graph or not model.graph[0].op:
        raise _not_loaded(path)
    try:
        graph_of(model)
    except ValueError as error:
        raise _not_loaded(path) from error
    return model


def graph_of(model: Any) -> Graph:
    """The main graph of a ModelDef.

    Raises:
        ValueError: an edge comes from nowhere.
        AtcError: names are given twice, or edges go in a circle.
    """
    definition = model.graph[0]
    nodes = {op.name: _node(op) for op in definition.op}
    if len(nodes) != len(definition.op):
        raise inner_error("Two operators have one name, which nothing here imitates.")
    for node in nodes.values():
        for source in (*node.sources, *((name, -1) for name in node.after)):
            if source is None:
                continue
            if source[0] not in nodes:
                raise ValueError(f"{node.name} takes {source[0]}, which is not there")
            if source[1] >= len(nodes[source[0]].proto.output_desc):
                raise ValueError(f"{source[0]} has no output {source[1]}")
    return Graph(definition.name, tuple(_in_order(nodes)))


def attribute(value: Any) -> Any:
    """What an AttrDef holds: a number, text, a list or a TensorDef."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    held = getattr(value, kind)
    if kind == "s":
        return held.decode()
    if kind == "list":
        fields: tuple[Any, ...] = (held.i, held.f, held.b, held.s)
        found = next((field for field in fields if len(field)), ())
        return tuple(item.decode() if isinstance(item, bytes) else item for item in found)
    return held


def _node(op: Any) -> Node:
    sources: list[Source | None] = []
    after: list[str] = []
    for text in op.input:  # "name:index", "name:-1" for a control edge, "" for nothing
        name, colon, index = text.rpartition(":")
        if not colon:
            sources.append(None)
        elif int(index) < 0:
            after.append(name)
        else:
            sources.append((name, int(index)))
    names = [description.name for description in op.input_desc][: len(sources)]
    names += [f"#{number}" for number in range(len(names), len(sources))]
    attributes = {key: attribute(value) for key, value in op.attr.items()}
    return Node(op.name, op.type, tuple(sources), tuple(names), tuple(after), attributes, op)


def _in_order(nodes: Mapping[str, Node]) -> list[Node]:
    """Each node behind its sources; beyond that as late as they stand in the file."""
    waits = {node.name: _waits_for(node) for node in nodes.values()}
    done: dict[str, Node] = {}
    rest: Sequence[Node] = list(nodes.values())
    while rest:
        ready = [node for node in rest if waits[node.name] <= done.keys()]
        if not ready:
            raise inner_error(f"The graph has a circle through {rest[0].name}.")
        done.update((node.name, node) for node in ready)
        rest = [node for node in rest if node.name not in done]
    return list(done.values())


def _waits_for(node: Node) -> set[str]:
    return {source[0] for source in node.sources if source is not None} | set(node.after)


def _first(pair: tuple[int, Node]) -> int:
    return pair[0]


def _not_loaded(path: Path) -> AtcError:
    text = f"Failed to load the model from {path}."
    return AtcError("E10041", text, title="Invalid_Argument_Model")
