"""The part of `acl.mdl` that loads and runs models.

Sources: ge, api/acl/acl_model/model/{model,model_config_om2,model_common}.cpp.
"""

from typing import Final

from tests.emulator import codes
from tests.emulator.functions import acl_function
from tests.emulator.memory import host_view
from tests.emulator.models import LoadError, LoadRequest, Model, load_model, open_om, unload_model
from tests.emulator.om import OmTensor
from tests.emulator.state import Buffer, Config, Dataset, State, Stream

__all__ = ["set_external_weight"]

LOAD_TYPE, PATH, MEM_ADDR, MEM_SIZE = 1, 2, 3, 4
WORKSPACE_ADDR, WORKSPACE_SIZE, WEIGHT_PATH = 7, 8, 14
FROM_FILE, FROM_FILE_WITH_MEM, FROM_MEM, FROM_MEM_WITH_MEM = 1, 2, 3, 4
STRINGS: Final = (PATH, WEIGHT_PATH)
NUMBERS: Final = (0, LOAD_TYPE, MEM_ADDR, MEM_SIZE, 5, 6, 7, 8, 9, 10, 11, 12, 13, 28)
OOM: Final = codes.GE_MEMORY_ALLOCATION
SLACK: Final = 64  # bytes that an input buffer may lack
ALIGNED: Final = 32  # addresses of inputs and outputs on the device


@acl_function(
    "mdl.load_from_file", "s", gives="pair", code=codes.GE_MEMORY_ALLOCATION, context=True
)
def load_from_file(state: State, path: str) -> tuple[int, int]:
    return load_model(state, LoadRequest(path=path))


@acl_function(
    "mdl.load_from_mem", "ii", gives="pair", code=codes.GE_MEMORY_ALLOCATION, context=True
)
def load_from_mem(state: State, address: int, size: int) -> tuple[int, int]:
    data = _host_bytes(state, address, size, "mdl.load_from_mem")
    return load_model(state, LoadRequest(data=data)) if data else (0, codes.INVALID_PARAM)


@acl_function(
    "mdl.load_from_file_with_mem",
    "siiii",
    gives="pair",
    code=OOM,
    context=True,
)
def load_from_file_with_mem(
    state: State, path: str, work: int, work_size: int, weight: int, weight_size: int
) -> tuple[int, int]:
    if weight:
        state.violate("mdl.load_from_file_with_mem: memory for weights is not imitated here")
        return 0, codes.INVALID_PARAM
    return load_model(state, LoadRequest(path=path, workspace=(work, work_size)))


@acl_function("mdl.create_config_handle", gives="int")
def create_config_handle(state: State) -> int:
    return state.new(Config())


@acl_function("mdl.destroy_config_handle", "i", code=codes.INVALID_PARAM)
def destroy_config_handle(state: State, handle: int) -> int:
    if state.get(handle, Config, "mdl.destroy_config_handle") is None:
        return codes.INVALID_PARAM
    state.drop(handle)
    return codes.OK


@acl_function("mdl.set_config_opt", "iio", code=codes.INVALID_PARAM)
def set_config_opt(state: State, handle: int, attribute: int, value: object) -> int:
    config = state.get(handle, Config, "mdl.set_config_opt")
    if config is None or attribute not in (*STRINGS, *NUMBERS):
        return codes.INVALID_PARAM
    if not isinstance(value, str if attribute in STRINGS else int):
        raise TypeError("acl.mdl.set_config_opt args parse failed!")
    assert isinstance(value, str | int)
    if attribute == LOAD_TYPE and value not in range(1, 7):
        return codes.INVALID_PARAM
    config.options[attribute] = value
    return codes.OK


@acl_function(
    "mdl.load_with_config", "i", gives="pair", code=codes.GE_MEMORY_ALLOCATION, context=True
)
def load_with_config(state: State, handle: int) -> tuple[int, int]:
    config = state.get(handle, Config, "mdl.load_with_config")
    request = _request(state, config) if config else None
    return load_model(state, request) if request else (0, codes.INVALID_PARAM)


def _request(state: State, config: Config) -> LoadRequest | None:
    """What a config asks for, or None when it contradicts itself."""
    options = config.options
    kind = options.get(LOAD_TYPE)
    if kind not in (FROM_FILE, FROM_FILE_WITH_MEM, FROM_MEM, FROM_MEM_WITH_MEM):
        return None
    workspace = (int(options.get(WORKSPACE_ADDR, 0)), int(options.get(WORKSPACE_SIZE, 0)))
    if kind in (FROM_FILE, FROM_MEM) and workspace[0]:
        # model.cpp, LoadFromFile: it makes empty arguments, so the address is forgotten silently.
        state.violate("mdl.load_with_config: a workspace needs load type 2 or 4, it is ignored")
        workspace = (0, 0)
    if kind in (FROM_FILE, FROM_FILE_WITH_MEM):
        if PATH not in options or WEIGHT_PATH in options:  # CheckMdlLoadConfigFromFile
            return None
        path = str(options[PATH])
        return LoadRequest(path=path, registered=dict(config.weights), workspace=workspace)
    if MEM_ADDR not in options or MEM_SIZE not in options:
        return None
    address, size = int(options[MEM_ADDR]), int(options[MEM_SIZE])
    data = _host_bytes(state, address, size, "mdl.load_with_config")
    if not data:
        return None
    return LoadRequest(
        data=data,
        weight_path=str(options.get(WEIGHT_PATH, "")),
        registered=dict(config.weights),
        workspace=workspace,
    )


def _host_bytes(state: State, address: int, size: int, where: str) -> bytes:
    if not address or size <= 0 or not state.memory.check_host(address, size, where):
        return b""
    return host_view(address, size).tobytes()


def set_external_weight(
    state: State, handle: int | None, name: bytes | None, address: int | None, size: int
) -> int:
    """aclmdlSetExternalWeightAddress, which pyACL does not wrap; ctypes calls it."""
    function = "aclmdlSetExternalWeightAddress"
    with state.lock:
        state.calls[function] += 1
        planned = state.planned_failure(function, codes.INVALID_PARAM)
        if planned is not None:
            return planned
        config = state.get(handle or 0, Config, function)
        if config is None or not name or not address or size == 0 or size % 32:
            return codes.INVALID_PARAM
        if b"/" in name:
            state.violate(f"{function}: {name!r} is a path, so no weight will ever match it")
        if state.memory.find(address, size, function) is None:
            return codes.INVALID_PARAM  # the real one looks at the address only when it loads
        config.weights[name.decode()] = (address, size)
        return codes.OK


@acl_function("mdl.query_size", "s", gives="triple", code=codes.GE_MODEL_PATH_INVALID)
def query_size(state: State, path: str) -> tuple[int, int, int]:
    """Workspace and inlined weights; that external ones do not count is a guess."""
    try:
        om, _, _ = open_om(path)
    except LoadError as error:
        state.report(error.text)
        return 0, 0, error.code
    inlined = sum(weight.size for weight in om.weights if not weight.file)
    return om.workspace_size, inlined, codes.OK


@acl_function("mdl.unload", "i", code=codes.GE_MODEL_ID_INVALID, context=True)
def unload(state: State, identity: int) -> int:
    return unload_model(state, identity)


@acl_function("mdl.execute", "iii", code=codes.RT_MODEL_EXECUTE, context=True)
def execute(state: State, identity: int, inputs: int, outputs: int) -> int:
    model, addresses, code = _prepare(state, identity, inputs, outputs, "mdl.execute")
    if model is None:
        return code
    gear = model.gear
    return model.run(state, gear, *addresses)


@acl_function("mdl.execute_async", "iiii", code=codes.RT_MODEL_EXECUTE, context=True)
def execute_async(state: State, identity: int, inputs: int, outputs: int, handle: int) -> int:
    model, addresses, code = _prepare(state, identity, inputs, outputs, "mdl.execute_async")
    if model is None:
        return code
    stream, code = state.stream(handle, "mdl.execute_async")
    if stream is None:
        return code
    _check_alone(state, model, stream)
    gear = model.gear
    model.pending[stream] += 1

    def work() -> int:
        model.pending[stream] -= 1
        if model not in state.models.values():
            state.violate(f"{model.label} was unloaded before its work was done")
            return codes.RT_MODEL_EXECUTE
        return model.run(state, gear, *addresses)

    stream.queue.append(work)
    return codes.OK


def _check_alone(state: State, model: Model, stream: Stream) -> None:
    for other in state.models.values():
        if other.workspace != model.workspace:
            continue
        if any(count and pending is not stream for pending, count in other.pending.items()):
            text = "itself" if other is model else f"{other.label}, whose workspace it shares,"
            state.violate(f"mdl.execute_async: {model.label} runs beside {text} on another stream")


def _prepare(
    state: State, identity: int, inputs: int, outputs: int, where: str
) -> tuple[Model | None, tuple[list[int], list[int]], int]:
    """Checks the buffers of a call; the addresses are taken now, the bytes when it runs."""
    nothing: tuple[list[int], list[int]] = ([], [])
    model = state.models.get(identity)
    if model is None or model.lost:
        return None, nothing, codes.GE_MODEL_ID_INVALID
    sets = state.get(inputs, Dataset, where), state.get(outputs, Dataset, where)
    if sets[0] is None or sets[1] is None:
        return None, nothing, codes.INVALID_PARAM
    if model.context is not state.context:  # the code is a guess
        state.violate(f"{where}: {model.label} was loaded under another context")
        return None, nothing, codes.RT_STREAM_CONTEXT
    model.gear = None
    if model.om.gears:  # without a choice the largest one runs
        largest = max(model.om.gears, key=lambda gear: gear.values)
        by_values = {gear.values: gear for gear in model.om.gears}
        model.gear = by_values[sets[0].gear] if sets[0].gear else largest
    addresses: tuple[list[int], list[int]] = ([], [])
    for dataset, tensors, found in zip(
        sets, (model.om.inputs, model.om.outputs), addresses, strict=True
    ):
        assert dataset is not None
        if len(dataset.buffers) != len(tensors):
            state.report(f"E13025: {len(dataset.buffers)} buffers, {len(tensors)} are needed")
            return None, nothing, codes.GE_PARAM_INVALID
        for handle, tensor in zip(dataset.buffers, tensors, strict=True):
            address = _address(state, handle, tensor, where)
            if address is None:
                return None, nothing, codes.GE_PARAM_INVALID
            found.append(address)
    return model, addresses, codes.OK


def _address(state: State, handle: int, tensor: OmTensor, where: str) -> int | None:
    """Where a buffer lies, or None when it does not fit the tensor."""
    buffer = state.get(handle, Buffer, where)
    if buffer is None or not buffer.address or buffer.size + SLACK < tensor.size:
        size = buffer.size if buffer else 0
        state.report(f"E13025: {tensor.name} needs {tensor.size} bytes, it has {size}")
        return None
    if state.memory.find(buffer.address, min(buffer.size, tensor.size), where) is None:
        return None
    if buffer.address % ALIGNED:
        # ge, docs/zh/api, RunGraph: "undefined errors may occur" else.
        state.violate(f"{where}: {tensor.name} is at {buffer.address:#x}, not in 32s")
    return buffer.address
