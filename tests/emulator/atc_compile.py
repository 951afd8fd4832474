"""The compile itself: checks a model, stores its weights and writes the OM; and --mode=1."""

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from tests.emulator.atc import Settings
from tests.emulator.atc_checks import check_nodes, check_registered
from tests.emulator.atc_errors import inner_error
from tests.emulator.atc_graph import Binding, bind, read_model, skeleton
from tests.emulator.npu_ops import is_weight_quant
from tests.emulator.om import MBATCH, Gear, Om, OmTensor, OmWeight, read_om
from tests.emulator.weights import WeightSource, store, type_name, write_sparse

__all__ = ["compile_model", "om_as_json"]


def compile_model(options: Mapping[str, str], settings: Settings) -> None:
    """Compiles a model as the options say.

    Raises:
        AtcError: ATC would refuse it.
    """
    path, output = Path(options["model"]), Path(options["output"])
    precision = options.get("precision_mode_v2", "fp16")
    model = read_model(path)
    check_registered(model)
    small = skeleton(model, path.parent)
    dynamic_inputs, bindings = bind(small, options)
    for binding in bindings:
        check_nodes(small, binding, options["soc_version"], precision)
    print("...optimize graph finished, start to build tasks", flush=True)
    largest = max(bindings, key=lambda b: b.values)
    output.parent.mkdir(parents=True, exist_ok=True)
    directory = output.parent / "weight" if options.get("external_weight") == "1" else None
    sources = [WeightSource(tensor, path.parent) for tensor in model.graph.initializer]
    turned = _transposed(small, largest) if settings.layout_per_graph else frozenset()
    weights = tuple(_store_weights(sources, directory, turned))
    om = Om(
        soc_name=options["soc_version"],
        precision_mode=precision,
        cann_version=settings.cann_version,
        inputs=(*_tensors(_inputs(model), largest), *_gear_input(largest)),
        outputs=_tensors(model.graph.output, largest),
        weights=weights,
        dynamic_inputs=tuple(dynamic_inputs),
        gears=tuple(_gear(model, binding) for binding in bindings if binding.values),
        workspace_size=settings.workspace_bytes,
    )
    protobuf = _without_weights(small, weights).SerializeToString()
    with _output_path(options, settings).open("wb") as file:
        om.write_head(file, protobuf)
        file.flush()
        if directory is None:
            for source, weight in zip(sources, weights, strict=True):
                for block in _laid_out(source, weight.layout):
                    write_sparse(file.fileno(), block)


def om_as_json(path: Path) -> dict[str, Any]:
    """What --mode=1 prints.

    Certain (ge, parser/common/convert/pb2json.cc over graph_metadef/proto/ge_ir.proto): graph is
    a list, each op has name, type and attr, a list of {key, value: {s | i}}; a FileConstant has
    location (a file name, file_constant_utils.cc RefreshRelativePath), offset and length.
    A guess: the other operators, which here keep their ONNX names, and the tensor descriptions.
    """
    try:
        with path.open("rb") as file:
            om, protobuf, _ = read_om(file)
    except ValueError as error:
        raise inner_error(f"{path} is {error}.") from error
    model = onnx.load_from_string(protobuf)
    ops: list[dict[str, Any]] = [
        {"name": tensor.name, "type": "Data", "output_desc": [_description(tensor)]}
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
    ops += [{"name": node.name, "type": node.op_type} for node in model.graph.node]
    ops.append({"name": "Node_Output", "type": "NetOutput"})
    attr = [{"key": "soc_version", "value": {"s": om.soc_name}}]
    return {"name": path.stem, "attr": attr, "graph": [{"name": model.graph.name, "op": ops}]}


def _description(tensor: OmTensor | OmWeight) -> dict[str, Any]:
    dtype = {"float32": "FLOAT"}.get(tensor.dtype, tensor.dtype.upper())
    return {"dtype": f"DT_{dtype}", "layout": "ND", "shape": {"dim": list(tensor.dims)}}


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _tensors(values: Any, binding: Binding) -> tuple[OmTensor, ...]:
    return tuple(
        OmTensor(
            name=value.name,
            dtype=type_name(binding.types[value.name].element),
            dims=binding.dims(value.name),
        )
        for value in values
    )


def _gear_input(binding: Binding) -> tuple[OmTensor, ...]:
    # One number per dynamic dim; that it is int32 is a guess.
    if not binding.values:
        return ()
    return (OmTensor(name=MBATCH, dtype="int32", dims=(len(binding.values),)),)


def _gear(model: onnx.ModelProto, binding: Binding) -> Gear:
    return Gear(
        values=binding.values,
        inputs=tuple(binding.dims(value.name) for value in _inputs(model)),
        outputs=tuple(binding.dims(value.name) for value in model.graph.output),
    )


def _transposed(model: onnx.ModelProto, binding: Binding) -> frozenset[str]:
    """Matrices that meet more than one row: another format could be chosen for them.

    A Transpose of a weight is part of the product, as GE folds it.
    """
    constants = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    source = {name: name for name in constants}
    found = set()
    for node in model.graph.node:
        if node.op_type == "Transpose" and node.input[0] in constants:
            source[node.output[0]] = node.input[0]
        if (node.op_type == "MatMul" or is_weight_quant(node)) and node.input[1] in source:
            rows = 1
            for dim in binding.dims(node.input[0])[:-1]:
                rows *= dim
            if rows > 1:
                found.add(source[node.input[1]])
    return frozenset(found)


def _store_weights(
    sources: list[WeightSource], directory: Path | None, turned: frozenset[str]
) -> Iterator[OmWeight]:
    offset = 0
    holes: dict[int, str] = {}  # size -> file: equal bytes are one file, so one is hashed
    for source in sources:
        tensor = source.tensor
        layout = "transposed" if tensor.name in turned and not source.is_hole else "nd"
        file = ""
        if directory is not None:
            file = holes.get(source.size, "") if source.is_hole else ""
            file = file or store(_laid_out(source, layout), directory)
            if source.is_hole:
                holes[source.size] = file
        yield OmWeight(
            name=tensor.name,
            dtype=type_name(tensor.data_type),
            dims=tuple(tensor.dims),
            file=file,
            offset=offset if directory is None else 0,
            layout=layout,
        )
        offset += source.size


def _laid_out(source: WeightSource, layout: str) -> Iterator[bytes]:
    if layout == "nd":
        yield from source.blocks()
    else:
        yield source.matrix().T.tobytes()


def _without_weights(model: onnx.ModelProto, weights: tuple[OmWeight, ...]) -> onnx.ModelProto:
    for tensor, weight in zip(model.graph.initializer, weights, strict=True):
        bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        bare.data_location = TensorProto.EXTERNAL
        bare.external_data.add(key="location", value=weight.file or "inline")
        bare.external_data.add(key="offset", value=str(weight.offset))
        bare.external_data.add(key="length", value=str(weight.size))
        tensor.CopyFrom(bare)
    return model


def _output_path(options: Mapping[str, str], settings: Settings) -> Path:
    # ge, base/common/helper/model_helper.cc: the host is named only when host code is embedded.
    suffix = ""
    if settings.host_in_name:
        system = options.get("host_env_os", "linux")
        suffix = f"_{system}_{options.get('host_env_cpu', platform.machine())}"
    return Path(f"{options['output']}{suffix}.om")
