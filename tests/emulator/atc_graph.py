"""What the emulated ATC reads of an ONNX model: its shapes, its types and its gears.

Takes the model as parsed, without external data; never holds a large weight in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, shape_inference

from tests.emulator.atc_errors import AtcError, inner_error
from tests.emulator.atc_options import invalid
from tests.emulator.npu_ops import expand_npu_ops
from tests.emulator.weights import WeightSource

__all__ = ["Binding", "TensorType", "bind", "read_model", "skeleton"]

MAX_PROTOBUF_BYTES: Final = 2**31 - 1  # the length of a message is an int32
SMALL_BYTES: Final = 4096  # a constant that may decide a shape

Dims = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type of onnx.TensorProto and the dims, as far as they are known."""

    element: int
    dims: Dims | None


@dataclass(frozen=True, slots=True)
class Binding:
    """The graph with one set of static input dims: the type of every value."""

    values: Dims  # of the dynamic dims, in the order of the inputs; empty when all is static
    types: Mapping[str, TensorType]

    def dims(self, name: str) -> Dims:
        """Dims of a value that must be static.

        Raises:
            AtcError: they are not.
        """
        found = self.types.get(name)
        if found is None or found.dims is None or any(dim < 0 for dim in found.dims):
            raise inner_error(f"The shape of {name} is not static after shape inference.")
        return found.dims


def read_model(path: Path) -> onnx.ModelProto:
    """The model without its external data.

    Raises:
        AtcError: it is too large, no ONNX file, or without input, output or nodes.
    """
    if path.stat().st_size > MAX_PROTOBUF_BYTES:
        # The limit is certain, that of protobuf itself; the code is a guess.
        raise inner_error(f"The model file {path} is larger than {MAX_PROTOBUF_BYTES} bytes.")
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise inner_error(f"Parse model file {path} failed.") from error
    for kind, items in (("input", _inputs(model)), ("output", model.graph.output)):
        if not items:
            text = f"The model has no {kind} node."
            raise AtcError("E16001", text, title="Invalid_Argument_ONNX_Model_Data")
    return model


def skeleton(model: onnx.ModelProto, directory: Path) -> onnx.ModelProto:
    """A copy with the small constants inside and the large ones left out, for shape inference."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    for tensor in small.graph.initializer:
        source = WeightSource(tensor, directory)
        data = b"".join(source.blocks()) if source.size <= SMALL_BYTES else b""
        bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        tensor.CopyFrom(bare)
        if data:
            tensor.raw_data = data
    return small


def bind(model: onnx.ModelProto, options: Mapping[str, str]) -> tuple[list[Dims], list[Binding]]:
    """The dims of the inputs with -1 where a gear decides, and one binding per gear."""
    wanted = _parse_input_shape(options.get("input_shape", ""))
    inputs = {value.name: _declared(value).dims or () for value in _inputs(model)}
    for name in wanted.keys() - inputs.keys():
        raise _bad_shape(options, f"The model has no input {name}")
    shapes: list[Dims] = []
    for name, dims in inputs.items():
        shapes.append(_merge(name, dims, wanted.get(name), options))
    dynamic = sum(shape.count(-1) for shape in shapes)
    if not dynamic:
        return [], [_infer(model, shapes, ())]
    if "dynamic_dims" not in options:
        raise inner_error("--input_shape has -1: fully dynamic shapes are not imitated here.")
    gears = _parse_gears(options["dynamic_dims"], dynamic)
    return shapes, [_infer(model, _fill(shapes, gear), gear) for gear in gears]


def _infer(model: onnx.ModelProto, shapes: Sequence[Dims], values: Dims) -> Binding:
    bound = expand_npu_ops(model)
    del bound.graph.value_info[:]
    for value, dims in zip(_inputs(bound), shapes, strict=True):
        _set_dims(value, dims)
    for value in bound.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        bound = shape_inference.infer_shapes(bound, data_prop=True, strict_mode=False)
    except shape_inference.InferenceError as error:
        raise inner_error(f"Infer shape failed: {error}") from error
    graph = bound.graph
    types = {t.name: TensorType(t.data_type, tuple(t.dims)) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = _declared(value)
    for value in model.graph.output:  # behind an operator that ONNX does not know
        if types[value.name].dims is None or types[value.name].element == 0:
            types[value.name] = _declared(value)
    return Binding(values, types)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _declared(value: onnx.ValueInfoProto) -> TensorType:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return TensorType(tensor.elem_type, None)
    dims = (dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    return TensorType(tensor.elem_type, tuple(dims))


def _set_dims(value: onnx.ValueInfoProto, dims: Dims) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for dim in dims:
        shape.dim.add().dim_value = dim


def _parse_input_shape(text: str) -> dict[str, Dims]:
    shapes: dict[str, Dims] = {}
    for part in filter(None, text.split(";")):
        name, colon, numbers = part.rpartition(":")
        try:
            dims = tuple(int(number) for number in numbers.split(",") if numbers)
        except ValueError:
            colon, dims = "", ()
        if not colon or not name or name in shapes or any(dim < -1 or dim == 0 for dim in dims):
            raise _bad_shape({"input_shape": text}, f"{part} cannot be read")
        shapes[name] = dims
    return shapes


def _merge(name: str, dims: Dims, wanted: Dims | None, options: Mapping[str, str]) -> Dims:
    if wanted is None:
        if any(dim < 0 for dim in dims):
            raise _bad_shape(options, f"Input {name} has a dynamic shape, so it must be given")
        return dims
    same_rank = len(dims) == len(wanted)
    # ATC may overwrite a static dim; here that is always a mistake.
    if not same_rank or any(d not in (-1, w) for d, w in zip(dims, wanted, strict=True)):
        raise _bad_shape(options, f"Input {name} is {list(dims)} in the model")
    return wanted


def _bad_shape(options: Mapping[str, str], reason: str) -> AtcError:
    value = options.get("input_shape", "")
    text = f"Value {value} for parameter --input_shape is invalid. Reason: {reason}."
    form = '"input_name1:n1,c1,h1,w1;input_name2:n2,c2,h2,w2"'
    title = "Invalid_Argument_Tensor_Input_Shape"
    return AtcError("E10002", f"{text} The value must be formatted as {form}.", title=title)


def _parse_gears(text: str, num_dynamic: int) -> list[Dims]:
    # Limits: ge, CLI_options/--dynamic_dims.md. That all of them are E10001 is a guess.
    try:
        gears = [tuple(int(n) for n in part.split(",")) for part in text.split(";") if part]
    except ValueError as error:
        raise invalid("--dynamic_dims", text, "It must be integers.") from error
    if not 2 <= len(gears) <= 100:
        raise invalid("--dynamic_dims", text, "The number of gears must be in [2, 100].")
    if len(set(gears)) != len(gears):
        raise invalid("--dynamic_dims", text, "A gear is given twice.")
    if any(len(gear) != num_dynamic or min(gear) < 1 for gear in gears):
        raise invalid("--dynamic_dims", text, f"A gear must have {num_dynamic} positive dims.")
    return gears


def _fill(shapes: Sequence[Dims], gear: Dims) -> list[Dims]:
    rest = iter(gear)
    return [tuple(next(rest) if dim == -1 else dim for dim in dims) for dims in shapes]
