"""A model on the emulated card: where its weights lie and how it runs.

A graph of ONNX runs on ONNX Runtime, one of GE operators on numpy. Constants are views of device
memory: what was registered is what is computed with.
"""

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tests.emulator import codes
from tests.emulator.execution import make_session
from tests.emulator.memory import Allocation
from tests.emulator.om import MBATCH, Gear, Om, OmWeight, numpy_dtype, read_om
from tests.emulator.state import Context, State, Stream
from tests.emulator.versions import version

__all__ = ["LoadRequest", "Model", "load_model", "open_om", "unload_model"]

_BLOCK = 4 * 2**20


class LoadError(Exception):
    """Why a model cannot be loaded: a code, and a text for get_recent_err_msg."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """What the caller gives: a file or bytes, weights on the card, a workspace (address, size)."""

    path: str = ""
    data: bytes = b""
    weight_path: str = ""
    registered: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    workspace: tuple[int, int] = (0, 0)


@dataclass(eq=False)
class Model:
    """A loaded model; `places` says where each weight lies."""

    label: str
    om: Om
    protobuf: bytes
    context: Context | None
    places: dict[str, tuple[Allocation, int]] = field(default_factory=dict)
    own: list[Allocation] = field(default_factory=list)
    borrowed: list[Allocation] = field(default_factory=list)
    workspace: int = 0
    gear: Gear | None = None
    pending: Counter[Stream] = field(default_factory=Counter)
    session: Any = None
    lost: bool = False  # the device was reset under it

    def run(self, state: State, gear: Gear | None, inputs: list[int], outputs: list[int]) -> int:
        """Computes from device memory to device memory; a return code."""
        try:
            if self.session is None:
                self.session = make_session(self.om, self.protobuf, self.places)
            feeds = self._feeds(state, gear, inputs)
            results = self.session.run([tensor.name for tensor in self.om.outputs], feeds)
            self._store(state, gear, outputs, results)
        except Exception as error:  # a real one would stop the AI Core, whatever the reason
            state.report(f"EZ9999: Inner Error! {self.label}: {error}")
            return codes.RT_MODEL_EXECUTE
        return codes.OK

    def _feeds(self, state: State, gear: Gear | None, addresses: list[int]) -> dict[str, Any]:
        feeds = {}
        tensors = [tensor for tensor in self.om.inputs if tensor.name != MBATCH]
        for index, (tensor, address) in enumerate(zip(tensors, addresses, strict=False)):
            dims = gear.inputs[index] if gear else tensor.dims
            dtype = numpy_dtype(tensor.dtype)
            size = int(np.prod(dims, dtype=np.int64)) * dtype.itemsize
            allocation = state.memory.find(address, size, f"{self.label}, input {tensor.name}")
            if allocation is None:
                raise ValueError(f"input {tensor.name} is not in device memory")
            held = allocation.writable if tensor.in_place else allocation.view
            feeds[tensor.name] = held(address, size).view(dtype).reshape(dims)
        return feeds

    def _store(
        self, state: State, gear: Gear | None, addresses: list[int], results: list[Any]
    ) -> None:
        for index, (tensor, address) in enumerate(zip(self.om.outputs, addresses, strict=True)):
            dims = gear.outputs[index] if gear else tensor.dims
            data = np.ascontiguousarray(results[index])
            if data.shape != dims:
                raise ValueError(f"output {tensor.name} is {data.shape}, the OM says {dims}")
            where = f"{self.label}, output {tensor.name}"
            allocation = state.memory.find(address, data.nbytes, where)
            if allocation is None:
                raise ValueError(f"output {tensor.name} is not in device memory")
            allocation.write(address, data.reshape(-1).view(np.uint8))


def open_om(path: str, data: bytes = b"") -> tuple[Om, bytes, int]:
    """Reads an OM from a file or from bytes.

    Raises:
        LoadError: it is missing or no OM.
    """
    if not data and not Path(path).is_file():
        raise LoadError(codes.GE_MODEL_PATH_INVALID, f"E13001: cannot open the model {path}")
    try:
        with io.BytesIO(data) if data else Path(path).open("rb") as file:
            return read_om(file)
    except ValueError as error:  # that the code is this one is a guess
        raise LoadError(codes.GE_MODEL_PATH_INVALID, f"E13023: {path} is {error}") from error


def load_model(state: State, request: LoadRequest) -> tuple[int, int]:
    """Puts a model on the card: (model id, return code)."""
    model = None
    try:
        om, protobuf, start = open_om(request.path, request.data)
        label = Path(request.path).name or "model from memory"
        _check_target(state, om)
        model = Model(label, om, protobuf, state.context)
        _place_weights(state, model, request, start)
        _place_workspace(state, model, request)
    except LoadError as error:
        if model is not None:
            _release(state, model)
        state.report(error.text)
        return 0, error.code
    for allocation in model.borrowed:
        allocation.users.append(label)
    identity = max(state.models, default=0) + 1
    state.models[identity] = model
    return identity, codes.OK


def unload_model(state: State, identity: int) -> int:
    """Takes a model off the card; a return code."""
    model = state.models.get(identity)
    if model is None:
        return codes.GE_MODEL_ID_INVALID
    if model.context is not state.context and not model.lost:
        state.violate(f"mdl.unload: {model.label} was loaded under another context")
    if +model.pending:
        state.violate(f"mdl.unload: {model.label} has work that was not synchronised")
    del state.models[identity]
    for allocation in model.borrowed:
        if model.label in allocation.users:
            allocation.users.remove(model.label)
    _release(state, model)
    return codes.OK


def _release(state: State, model: Model) -> None:
    model.session = None
    model.places.clear()
    for allocation in model.own:
        if not model.lost:
            state.memory.free(allocation.address)
    model.own.clear()


def _check_target(state: State, om: Om) -> None:
    # The codes are guesses. ge, overview of ATC: the runtime must not be older than the compiler.
    if om.soc_name != state.soc_name:
        text = f"E10001: the model was compiled for {om.soc_name}, this is {state.soc_name}"
        raise LoadError(codes.GE_PARAM_INVALID, text)
    if version(om.cann_version) > version(state.cann):
        text = f"E19999: the model needs CANN {om.cann_version}, this is {state.cann}"
        raise LoadError(codes.GE_PARAM_INVALID, text)


def _place_weights(state: State, model: Model, request: LoadRequest, start: int) -> None:
    files: dict[str, tuple[Allocation, int]] = {}
    parent = Path(request.path).resolve().parent / "weight"
    directory = Path(request.weight_path) if request.weight_path else parent
    for weight in model.om.weights:
        if weight.file in request.registered:
            address, size = request.registered[weight.file]
            place = _registered(state, model, weight, address, size)
        elif weight.file and weight.file in files:
            place = files[weight.file]
        elif weight.file:
            place = files[weight.file] = _own(state, model, weight, directory / weight.file, 0)
        elif request.data:
            begin = start + weight.offset
            place = _own_bytes(state, model, request.data[begin : begin + weight.size])
        else:
            place = _own(state, model, weight, Path(request.path), start + weight.offset)
        model.places[weight.name] = place


def _registered(
    state: State, model: Model, weight: OmWeight, address: int, size: int
) -> tuple[Allocation, int]:
    if size < weight.size:  # ge, runtime/v1/graph/load/model_manager/davinci_model.cc
        text = f"E10001: {weight.file} needs {weight.size} bytes, {size} were registered"
        raise LoadError(codes.GE_PARAM_INVALID, text)
    allocation = state.memory.find(address, weight.size, f"weight {weight.file}")
    if allocation is None:
        raise LoadError(codes.GE_PARAM_INVALID, f"{weight.file} is not in device memory")
    if allocation not in model.borrowed:
        model.borrowed.append(allocation)
    return allocation, address


def _own(
    state: State, model: Model, weight: OmWeight, path: Path, start: int
) -> tuple[Allocation, int]:
    if not path.is_file() or path.stat().st_size < start + weight.size:
        text = f"E13001: cannot read {weight.size} bytes of the weight file {path}"
        raise LoadError(codes.GE_PARAM_INVALID, text)  # the code is a guess
    allocation = _malloc(state, model, weight.size)
    with path.open("rb") as file:
        file.seek(start)
        _fill(allocation, file, weight.size)
    return allocation, allocation.address


def _own_bytes(state: State, model: Model, data: bytes) -> tuple[Allocation, int]:
    allocation = _malloc(state, model, len(data))
    _fill(allocation, io.BytesIO(data), len(data))
    return allocation, allocation.address


def _fill(allocation: Allocation, file: BinaryIO, size: int) -> None:
    for begin in range(0, size, _BLOCK):
        block = np.frombuffer(file.read(min(_BLOCK, size - begin)), np.uint8)
        allocation.write(allocation.address + begin, block)


def _malloc(state: State, model: Model, size: int) -> Allocation:
    allocation = state.memory.malloc(max(size, 1))
    if allocation is None:
        text = f"EE1001: no {size} bytes left on the device for {model.label}"
        raise LoadError(codes.GE_MEMORY_ALLOCATION, text)
    allocation.owner = model.context.device if model.context else 0
    model.own.append(allocation)
    return allocation


def _place_workspace(state: State, model: Model, request: LoadRequest) -> None:
    address, size = request.workspace
    if not address:
        model.workspace = _malloc(state, model, model.om.workspace_size).address
        return
    needed = model.om.workspace_size
    if size < needed:  # the code is a guess
        text = f"E10001: a workspace of {size} bytes is too small, {needed} are needed"
        raise LoadError(codes.GE_PARAM_INVALID, text)
    allocation = state.memory.find(address, size, "workspace")
    if allocation is None:
        raise LoadError(codes.GE_PARAM_INVALID, "the workspace is not in device memory")
    model.workspace = address
    model.borrowed.append(allocation)
