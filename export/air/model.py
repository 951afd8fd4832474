"""What torchair gives -> the model that ATC reads: our names, weights in files, the same bytes.

Takes and gives a ge.proto.ModelDef, in the classes of the wheel.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtime.bundle.manifest import TensorSpec

__all__ = ["finished_model"]

GE_TYPES = {"float32": 0, "float16": 1, "int8": 2}  # ge::DataType
INTS = 2  # of a list in an attribute
# Notes of torchair for people, and the names that nodes had before, which hold addresses.
NOTES = ("_readable_value", "_origin_data_name")


def finished_model(
    model: Any, name: str, inputs: Sequence[TensorSpec], files: Mapping[str, str]
) -> bytes:
    """Renames and points at files; the bytes depend on the arguments alone.

    Args:
        model: a ModelDef whose inputs carry their number among `inputs`; it is changed.
        name: of the graph.
        inputs: tokens, caches and weights.
        files: of the weights, relative to where ATC will run.

    Returns:
        The .air.
    """
    [graph] = model.graph
    graph.name = name
    given = [spec.name for spec in inputs if spec.name not in files]
    renamed = {}
    for node in _inputs(graph):
        spec = inputs[node.attr["index"].i]
        renamed[node.name] = spec.name
        node.name = spec.name
        if spec.name in files:
            _point_at_file(node, spec, files[spec.name])
        else:
            node.attr["index"].i = given.index(spec.name)
    for node in graph.op:
        node.input[:] = [_renamed(name, renamed) for name in node.input]
        for note in NOTES:
            node.attr.pop(note, None)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _inputs(graph: Any) -> Iterator[Any]:
    return (node for node in graph.op if node.type in ("Data", "RefData"))


def _point_at_file(node: Any, spec: TensorSpec, file: str) -> None:
    description = node.output_desc[0]
    node.type = "FileConstant"
    node.attr.clear()
    del node.input_desc[:]
    del node.output_desc[1:]
    description.name = "y"
    node.attr["shape"].list.val_type = INTS
    node.attr["shape"].list.i.extend(spec.shape)
    node.attr["dtype"].dt = GE_TYPES[spec.dtype]
    node.attr["file_path"].s = file.encode()
    node.attr["file_id"].s = b""


def _renamed(name: str, renamed: Mapping[str, str]) -> str:
    node, colon, output = name.rpartition(":")
    return f"{renamed.get(node, node)}{colon}{output}"
