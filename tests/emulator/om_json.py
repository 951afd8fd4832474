"""What `atc --mode=1` prints of an OM."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import onnx

from tests.emulator.atc_errors import inner_error
from tests.emulator.ge.graph import INPUTS, graph_of
from tests.emulator.ge.proto import new_model
from tests.emulator.ge.run import CONSTANTS
from tests.emulator.om import OmTensor, OmWeight, read_om

__all__ = ["om_as_json"]

Operators = Iterator[tuple[str, str]]  # name and type


def om_as_json(path: Path) -> dict[str, Any]:
    """What --mode=1 prints.

    Certain (ge, parser/common/convert/pb2json.cc over graph_metadef/proto/ge_ir.proto): graph is
    a list, each op has name, type and attr, a list of {key, value: {s | i}}; a FileConstant has
    location (a file name, file_constant_utils.cc RefreshRelativePath), offset and length.
    A guess: the other operators, which here keep the names they came with, and the tensor
    descriptions.
    """
    try:
        with path.open("rb") as file:
            om, protobuf, _ = read_om(file)
    except ValueError as error:
        raise inner_error(f"{path} is {error}.") from error
    ops: list[dict[str, Any]] = [
        {
            "name": tensor.name,
            "type": "RefData" if tensor.in_place else "Data",
            "output_desc": [_description(tensor)],
        }
        for tensor in om.inputs
    ]
    for weight in om.weights:
        kind = "FileConstant" if weight.file else "Const"
        ops.append({"name": weight.name, "type": kind, "output_desc": [_description(weight)]})
        if weight.file:
            ops[-1]["attr"] = [
                {"key": "length", "value": {"i": weight.size}},
                {"key": "location", "value": {"s": weight.file}},
                {"key": "offset", "value": {"i": 0}},
            ]
    for name, kind in _READ[om.operators](protobuf):
        if name in om.conversions:
            ops.append({"name": f"trans_TransData_{len(ops)}", "type": "TransData"})
        ops.append({"name": name, "type": kind})
    ops.append({"name": "Node_Output", "type": "NetOutput"})
    attr = [{"key": "soc_version", "value": {"s": om.soc_name}}]
    return {"name": path.stem, "attr": attr, "graph": [{"name": path.stem, "op": ops}]}


def _description(tensor: OmTensor | OmWeight) -> dict[str, Any]:
    dtype = {"float32": "FLOAT"}.get(tensor.dtype, tensor.dtype.upper())
    return {"dtype": f"DT_{dtype}", "layout": "ND", "shape": {"dim": list(tensor.dims)}}


def _onnx_operators(protobuf: bytes) -> Operators:
    for node in onnx.load_from_string(protobuf).graph.node:
        yield node.name, node.op_type


def _ge_operators(protobuf: bytes) -> Operators:
    for node in graph_of(new_model(protobuf)).nodes:
        if node.type not in (*INPUTS, *CONSTANTS, "NetOutput"):
            yield node.name, node.type


_READ: Final[Mapping[str, Any]] = {"onnx": _onnx_operators, "ge": _ge_operators}
