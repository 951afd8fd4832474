"""The compile of an ONNX model: checks it, stores its weights and writes the OM."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from tests.emulator.atc import Settings
from tests.emulator.atc_checks import check_nodes, check_registered
from tests.emulator.atc_graph import Binding, bind, read_model, skeleton
from tests.emulator.npu_ops import is_weight_quant
from tests.emulator.om import MBATCH, Gear, Om, OmTensor, OmWeight
from tests.emulator.om_file import store_weights, write_om
from tests.emulator.weights import WeightSource, type_name

__all__ = ["compile_model"]


def compile_model(options: Mapping[str, str], settings: Settings) -> None:
    """Compiles a model as the options say.

    Raises:
        AtcError: ATC would refuse it.
    """
    path = Path(options["model"])
    precision = options.get("precision_mode_v2", "fp16")
    model = read_model(path)
    check_registered(model)
    small = skeleton(model, path.parent)
    dynamic_inputs, bindings = bind(small, options)
    for binding in bindings:
        check_nodes(small, binding, options["soc_version"], precision)
    print("...optimize graph finished, start to build tasks", flush=True)
    largest = max(bindings, key=lambda b: b.values)
    sources = [WeightSource(tensor, path.parent) for tensor in model.graph.initializer]
    turned = _transposed(small, largest) if settings.layout_per_graph else frozenset()
    weights = store_weights(sources, options, turned)
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
        conversions=_conversions(small, options["soc_version"]),
    )
    protobuf = _without_weights(small, weights).SerializeToString()
    write_om(om, protobuf, sources, options, settings)


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


def _conversions(model: onnx.ModelProto, soc: str) -> tuple[str, ...]:
    """Products whose right factor is computed: a 310P takes it in FRACTAL_NZ only, which a constant
    gets while compiling (ops-nn, matmul/mat_mul_v3/op_host/mat_mul_v3_def.cpp)."""
    if not soc.startswith("Ascend310P"):
        return ()
    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if all(not name or name in constants for name in node.input):
            constants.update(node.output)
        elif node.op_type in ("MatMul", "Gemm") and node.input[1] not in constants:
            found.append(node.name)
    return tuple(found)


def _without_weights(model: onnx.ModelProto, weights: tuple[OmWeight, ...]) -> onnx.ModelProto:
    for tensor, weight in zip(model.graph.initializer, weights, strict=True):
        bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        bare.data_location = TensorProto.EXTERNAL
        bare.external_data.add(key="location", value=weight.file or "inline")
        bare.external_data.add(key="offset", value=str(weight.offset))
        bare.external_data.add(key="length", value=str(weight.size))
        tensor.CopyFrom(bare)
    return model
