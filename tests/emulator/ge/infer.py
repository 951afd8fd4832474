"""Types of all values of a graph: what is constant is computed, the rest is tried on zeros.

A result on zeros has the shape and type of every result, and zeros without memory cost nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tests.emulator.atc_errors import AtcError, inner_error
from tests.emulator.ge.call import Array, Call, Type
from tests.emulator.ge.graph import INPUTS, Graph, Node, Source
from tests.emulator.ge.proto import GE_TYPES, PROTO_TYPES
from tests.emulator.ge.run import CONSTANTS, OPERATORS, inputs_of
from tests.emulator.om import numpy_dtype

__all__ = ["Inferred", "constant_type", "infer"]

KNOWN_BYTES: Final = 2**20  # of a value that may decide a shape


@dataclass(frozen=True, slots=True)
class Inferred:
    """The type of every value, and each operator with inputs that have the right shapes."""

    types: Mapping[Source, Type]
    calls: tuple[Call, ...]


def infer(graph: Graph) -> Inferred:
    """Types of a graph whose inputs are static.

    Raises:
        AtcError: an operator is unknown or does not fit what goes in.
    """
    types: dict[Source, Type] = {}
    known: dict[Source, Array] = {}
    calls = []
    for node in graph.nodes:
        place = (node.name, 0)
        if node.type in INPUTS:
            types[place] = _input_type(node)
        elif node.type in CONSTANTS:
            types[place] = constant_type(node)
            if node.type != "FileConstant":
                known[place] = _constant(node, types[place])
        elif node.type != "NetOutput":
            call = _call(node, types, known)
            calls.append(call)
            _add_results(call, types, known)
    return Inferred(types, tuple(calls))


def constant_type(node: Node) -> Type:
    """Of a Const its tensor, of a FileConstant its attributes."""
    if node.type == "FileConstant":
        dims = tuple(node.attributes.get("shape") or ())
        return Type(_named(GE_TYPES, node.attributes.get("dtype"), node), dims)
    return _described(node.attributes["value"].desc, node)


def _input_type(node: Node) -> Type:
    if not node.proto.input_desc:  # ConstructAndUpdateInputTensors reads the first
        raise inner_error(f"{node.name} has no description of its input.")
    found = _described(node.proto.input_desc[0], node)
    if any(dim < 0 for dim in found.dims):
        raise inner_error(f"{node.name} is {list(found.dims)}: dynamic shapes are not imitated.")
    return found


def _described(description: Any, node: Node) -> Type:
    dims = tuple(description.shape.dim)
    return Type(_named(PROTO_TYPES, description.dtype, node), dims)


def _named(names: Mapping[int, str], number: Any, node: Node) -> str:
    if number not in names:
        raise inner_error(f"{node.name} has the element type {number}, which nothing here knows.")
    return names[number]


def _constant(node: Node, found: Type) -> Array:
    flat = np.frombuffer(node.attributes["value"].data, numpy_dtype(found.dtype))
    if flat.size != int(np.prod(found.dims, dtype=np.int64)):
        raise inner_error(f"{node.name} is {list(found.dims)}, it has {flat.size} numbers.")
    return flat.reshape(found.dims)


def _call(node: Node, types: Mapping[Source, Type], known: Mapping[Source, Array]) -> Call:
    operator = OPERATORS.get(node.type)
    if operator is None:
        # The code is that of an operator without a prototype; the emulator knows few.
        text = f"IR for Op {node.name} with optype {node.type} is not registered."
        raise AtcError("E10501", text, title="Not_Supported_Operator")
    given = inputs_of(node, known)
    for name in operator.shaped_by:
        if node.source(name) is not None and name not in given:
            raise inner_error(f"The shape of {node.name} is not static: {name} is computed.")
    zeros = {source: _zeros(types[source]) for source in node.sources if source is not None}
    return Call(node, inputs_of(node, {**zeros, **known}))


def _zeros(found: Type) -> Array:
    return np.broadcast_to(np.zeros((), numpy_dtype(found.dtype)), found.dims)


def _add_results(call: Call, types: dict[Source, Type], known: dict[Source, Array]) -> None:
    node, operator = call.node, OPERATORS[call.node.type]
    settled = len(inputs_of(node, known)) == len(call.inputs)
    try:
        if operator.infer and not settled:
            for index, found in enumerate(operator.infer(call)):
                types[node.name, index] = found
            return
        results = operator.compute(call)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        text = f"Infer shape of {node.name}, type {node.type}, failed: {error}"
        raise inner_error(text) from error
    for index, result in enumerate(results):
        types[node.name, index] = Type(result.dtype.name, result.shape)
        if settled and result.nbytes <= KNOWN_BYTES:
            known[node.name, index] = result
