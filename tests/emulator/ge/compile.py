"""The compile of an .air: loads it, checks it for a chip, stores its weights and writes the OM."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.emulator.atc import Settings
from tests.emulator.atc_errors import inner_error
from tests.emulator.ge.graph import Graph, Node, Source, graph_of, read_air
from tests.emulator.ge.infer import Inferred, constant_type, infer
from tests.emulator.ge.limits import check_call
from tests.emulator.ge.products import TURNED
from tests.emulator.ge.run import CONSTANTS
from tests.emulator.ge.writes import check_order
from tests.emulator.om import Om, OmTensor, num_bytes
from tests.emulator.om_file import store_weights, write_om
from tests.emulator.versions import version
from tests.emulator.weights import FileBytes, in_blocks

__all__ = ["compile_air"]

REF_DATA_SINCE: Final = "8.5.0"  # that ATC takes RefData as an input of a model


def compile_air(options: Mapping[str, str], settings: Settings) -> None:
    """Compiles a model of GE operators.

    Raises:
        AtcError: ATC would refuse it.
    """
    soc = options["soc_version"]
    series = soc.removeprefix("Ascend")[:4]
    model = read_air(Path(options["model"]))
    graph = graph_of(model)
    _check_ends(graph, settings)
    inferred = infer(graph)
    for call in inferred.calls:
        check_call(call, series)
    _check_lengths(graph, options)
    check_order(graph)
    print("...optimize graph finished, start to build tasks", flush=True)
    constants = [_constant(node) for node in graph.nodes if node.type in CONSTANTS]
    turned = _turned(graph, inferred) if settings.layout_per_graph else frozenset()
    weights = store_weights(constants, options, turned)
    om = Om(
        soc_name=soc,
        precision_mode=options.get("precision_mode_v2", "fp16"),
        cann_version=settings.cann_version,
        inputs=tuple(_input(node, inferred) for node in graph.inputs),
        outputs=tuple(_outputs(graph, inferred)),
        weights=weights,
        dynamic_inputs=(),
        gears=(),
        workspace_size=settings.workspace_bytes,
        operators="ge",
        conversions=_conversions(graph) if series == "310P" else (),
    )
    write_om(om, _without_weights(model), constants, options, settings)


@dataclass(frozen=True, slots=True)
class _Constant:
    """A Const or FileConstant."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    data: bytes | FileBytes

    @property
    def is_hole(self) -> bool:
        return isinstance(self.data, FileBytes) and self.data.is_hole

    def blocks(self) -> Iterator[bytes]:
        return in_blocks(self.data) if isinstance(self.data, bytes) else self.data.blocks()


def _constant(node: Node) -> _Constant:
    """Where the bytes lie: `location` wins over `file_path`, and without a length all are taken.

    ge, base/common/file_constant_utils/file_constant_utils.cc, ConvertFileConstToConst.
    """
    found = constant_type(node)
    if node.type != "FileConstant":
        return _Constant(node.name, found.dtype, found.dims, node.attributes["value"].data)
    path = node.attributes.get("location") or node.attributes.get("file_path")
    if not path:
        raise inner_error(f"The file path and file id of {node.name} are empty.")
    size = num_bytes(found.dtype, found.dims)
    length = node.attributes.get("length") or size
    if length != size:
        raise inner_error(f"{node.name} is of {size} bytes, its length is {length}.")
    data = FileBytes(Path(path), node.attributes.get("offset") or 0, size)
    if not data.is_there:
        raise inner_error(f"Failed to read external weight from file:{path}")
    return _Constant(node.name, found.dtype, found.dims, data)


def _check_ends(graph: Graph, settings: Settings) -> None:
    if not graph.outputs:
        raise inner_error("A graph without NetOutput is not imitated by this emulator.")
    if version(settings.cann_version) >= version(REF_DATA_SINCE):
        return
    for node in graph.inputs:
        if node.type == "RefData":  # how an older one fails is a guess
            raise inner_error(f"RefData {node.name} is no input before CANN {REF_DATA_SINCE}.")


def _check_lengths(graph: Graph, options: Mapping[str, str]) -> None:
    """Lengths that are computed need tiling on the device: --tiling_schedule_optimize.md."""
    if options.get("tiling_schedule_optimize") == "1":
        return
    constants = {node.name for node in graph.nodes if node.type in CONSTANTS}
    for node in graph.nodes:
        for name in ("actual_seq_lengths", "actual_seq_lengths_kv"):
            source = node.source(name)
            if source is not None and source[0] not in constants:
                text = "without --tiling_schedule_optimize=1 is not imitated by this emulator"
                raise inner_error(f"{name} of {node.name} {text}.")


def _input(node: Node, inferred: Inferred) -> OmTensor:
    found = inferred.types[node.name, 0]
    in_place = node.type == "RefData"
    return OmTensor(name=node.name, dtype=found.dtype, dims=found.dims, in_place=in_place)


def _outputs(graph: Graph, inferred: Inferred) -> Iterator[OmTensor]:
    for number, source in enumerate(graph.outputs):
        found = inferred.types[source]
        # ge, runtime/v1/graph/load/model_manager/davinci_model.cc, InitOutputDescInfo.
        name = f"output_{number}_{source[0]}_{source[1]}"
        yield OmTensor(name=name, dtype=found.dtype, dims=found.dims)


def _constants_behind(graph: Graph) -> dict[Source, str]:
    """Values that are constants, or constants turned round, and the constant of each."""
    found = {(node.name, 0): node.name for node in graph.nodes if node.type in CONSTANTS}
    for node in graph.nodes:
        source = node.sources[0] if node.sources else None
        if node.type in ("Transpose", "TransData") and source in found:
            found[node.name, 0] = found[source]
    return found


def _conversions(graph: Graph) -> tuple[str, ...]:
    """Products whose right factor is computed: a 310P takes it in FRACTAL_NZ only, which a constant
    gets while compiling (ops-nn, matmul/mat_mul_v3/op_host/mat_mul_v3_def.cpp)."""
    constants = _constants_behind(graph)
    return tuple(
        node.name
        for node in graph.nodes
        if node.type in TURNED and node.source("x2") not in constants
    )


def _turned(graph: Graph, inferred: Inferred) -> frozenset[str]:
    """Matrices that meet more than one row: another format could be chosen for them."""
    constants, found = _constants_behind(graph), set()
    for node in graph.nodes:
        left, right = node.source("x1" if node.type in TURNED else "x"), None
        if node.type in TURNED or node.type == "WeightQuantBatchMatmulV2":
            right = node.source("x2" if node.type in TURNED else "weight")
        if left is None or right not in constants:
            continue
        name = constants[right]
        if math.prod(inferred.types[left].dims[:-1]) > 1 and _is_matrix(name, inferred):
            found.add(name)
    return frozenset(found)


def _is_matrix(name: str, inferred: Inferred) -> bool:
    return len(inferred.types[name, 0].dims) == 2


def _without_weights(model: object) -> bytes:
    """The graph with what its constants are, but not their bytes."""
    bare = type(model)()
    bare.CopyFrom(model)  # type: ignore[attr-defined]
    for op in bare.graph[0].op:  # type: ignore[attr-defined]
        if op.type in CONSTANTS and "value" in op.attr:
            op.attr["value"].t.data = b""
    data: bytes = bare.SerializeToString()  # type: ignore[attr-defined]
    return data
