"""The part of `acl.mdl` that describes models and makes datasets, gears included."""

from typing import Any

from tests.emulator import codes
from tests.emulator.functions import acl_function
from tests.emulator.models import Model
from tests.emulator.om import MBATCH, OmTensor
from tests.emulator.state import Buffer, Dataset, Description, State, TensorDesc

__all__: list[str] = []


@acl_function("mdl.create_desc", gives="int")
def create_desc(state: State) -> int:
    return state.new(Description())


@acl_function("mdl.get_desc", "ii", code=codes.GE_MODEL_ID_INVALID)
def get_desc(state: State, handle: int, identity: int) -> int:
    desc = state.get(handle, Description, "mdl.get_desc")
    if desc is None:
        return codes.INVALID_PARAM
    if identity not in state.models:
        return codes.GE_MODEL_ID_INVALID
    desc.model = state.models[identity]
    return codes.OK


@acl_function("mdl.destroy_desc", "i", code=codes.INVALID_PARAM)
def destroy_desc(state: State, handle: int) -> int:
    if state.get(handle, Description, "mdl.destroy_desc") is None:
        return codes.INVALID_PARAM
    state.drop(handle)
    return codes.OK


def _model(state: State, handle: int, where: str) -> Model | None:
    desc = state.get(handle, Description, where)
    if desc is None:
        return None
    if desc.model is None:
        state.violate(f"{where}: the description is empty, get_desc comes first")
    model: Model | None = desc.model
    return model


def _tensor(state: State, handle: int, side: str, index: int) -> OmTensor | None:
    model = _model(state, handle, f"mdl.get_{side}")
    if model is None:
        return None
    tensors = model.om.inputs if side == "input" else model.om.outputs
    return tensors[index] if 0 <= index < len(tensors) else None


def _register(side: str) -> None:  # noqa: C901
    """Makes the functions that exist for inputs and for outputs."""

    def num(state: State, handle: int) -> int:
        model = _model(state, handle, f"mdl.get_num_{side}s")
        if model is None:
            return 0
        return len(model.om.inputs if side == "input" else model.om.outputs)

    def size(state: State, handle: int, index: int) -> int:
        tensor = _tensor(state, handle, side, index)
        return tensor.size if tensor else 0

    def dtype(state: State, handle: int, index: int) -> int:
        tensor = _tensor(state, handle, side, index)
        return codes.DTYPES[tensor.dtype] if tensor else -1

    def layout(state: State, handle: int, index: int) -> int:
        return codes.FORMAT_ND if _tensor(state, handle, side, index) else -1

    def name(state: State, handle: int, index: int) -> str:
        tensor = _tensor(state, handle, side, index)
        return tensor.name if tensor else ""

    def dims(state: State, handle: int, index: int) -> tuple[dict[str, Any], int]:
        tensor = _tensor(state, handle, side, index)
        if tensor is None:
            return {}, codes.INVALID_PARAM
        model = state.handles[handle].model
        known = tensor.dims
        if side == "input" and model.om.gears and tensor.name != MBATCH:
            known = model.om.dynamic_inputs[index]  # -1 where a gear decides
        return _dims(tensor.name, known), codes.OK

    acl_function(f"mdl.get_num_{side}s", "i", gives="int")(num)
    acl_function(f"mdl.get_{side}_size_by_index", "ii", gives="int")(size)
    acl_function(f"mdl.get_{side}_data_type", "ii", gives="int")(dtype)
    acl_function(f"mdl.get_{side}_format", "ii", gives="int")(layout)
    acl_function(f"mdl.get_{side}_name_by_index", "ii", gives="text")(name)
    acl_function(f"mdl.get_{side}_dims", "ii", gives="dict", code=codes.INVALID_PARAM)(dims)
    if side == "input":
        acl_function("mdl.get_input_dims_v2", "ii", gives="dict", code=codes.INVALID_PARAM)(dims)


_register("input")
_register("output")


def _dims(name: str, dims: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "dimCount": len(dims), "dims": list(dims)}


@acl_function("mdl.get_cur_output_dims", "ii", gives="dict", code=codes.INVALID_PARAM)
def get_cur_output_dims(state: State, handle: int, index: int) -> tuple[dict[str, Any], int]:
    tensor = _tensor(state, handle, "output", index)
    if tensor is None:
        return {}, codes.INVALID_PARAM
    gear = state.handles[handle].model.gear
    return _dims(tensor.name, gear.outputs[index] if gear else tensor.dims), codes.OK


@acl_function("mdl.get_input_index_by_name", "is", gives="pair", code=codes.INVALID_PARAM)
def get_input_index_by_name(state: State, handle: int, name: str) -> tuple[int, int]:
    model = _model(state, handle, "mdl.get_input_index_by_name")
    names = [tensor.name for tensor in model.om.inputs] if model else []
    return (names.index(name), codes.OK) if name in names else (0, codes.INVALID_PARAM)


@acl_function("mdl.get_dynamic_batch", "i", gives="dict", code=codes.INVALID_PARAM)
def get_dynamic_batch(state: State, handle: int) -> tuple[dict[str, Any], int]:
    if _model(state, handle, "mdl.get_dynamic_batch") is None:
        return {}, codes.INVALID_PARAM
    return {"batchCount": 0, "batch": []}, codes.OK  # --dynamic_batch_size is not imitated


@acl_function("mdl.get_input_dynamic_gear_count", "ii", gives="pair", code=codes.INVALID_PARAM)
def get_input_dynamic_gear_count(state: State, handle: int, index: int) -> tuple[int, int]:
    model = _model(state, handle, "mdl.get_input_dynamic_gear_count")
    if model is None or index != -1:
        return 0, codes.INVALID_PARAM
    return len(model.om.gears), codes.OK


@acl_function("mdl.get_input_dynamic_dims", "iii", gives="list", code=codes.INVALID_PARAM)
def get_input_dynamic_dims(
    state: State, handle: int, index: int, count: int
) -> tuple[list[dict[str, Any]], int]:
    model = _model(state, handle, "mdl.get_input_dynamic_dims")
    if model is None or index != -1 or count < len(model.om.gears):
        return [], codes.INVALID_PARAM
    gears = [tuple(dim for dims in gear.inputs for dim in dims) for gear in model.om.gears]
    return [_dims("", dims) for dims in gears], codes.OK


@acl_function("mdl.set_input_dynamic_dims", "iiid", code=codes.GE_PARAM_INVALID, context=True)
def set_input_dynamic_dims(
    state: State, identity: int, dataset_handle: int, index: int, wanted: dict[str, Any]
) -> int:
    model = state.models.get(identity)
    dataset = state.get(dataset_handle, Dataset, "mdl.set_input_dynamic_dims")
    if model is None:
        return codes.GE_MODEL_ID_INVALID
    if dataset is None:
        return codes.INVALID_PARAM
    if {"name", "dimCount", "dims"} - wanted.keys():
        raise TypeError("acl.mdl.set_input_dynamic_dims args parse failed!")
    names = [tensor.name for tensor in model.om.inputs]
    if not model.om.gears or not 0 <= index < len(names) or names[index] != MBATCH:
        return codes.GE_PARAM_INVALID
    dims = tuple(wanted["dims"])
    pattern = [dim for dims in model.om.dynamic_inputs for dim in dims]
    if wanted["dimCount"] != len(pattern) or len(dims) != len(pattern):
        return codes.GE_DYNAMIC_LENGTH_INVALID
    if any(p not in (-1, dim) for p, dim in zip(pattern, dims, strict=True)):
        return codes.GE_DYNAMIC_LENGTH_INVALID
    values = tuple(dim for p, dim in zip(pattern, dims, strict=True) if p == -1)
    if values not in [gear.values for gear in model.om.gears]:
        return codes.GE_DYNAMIC_BATCH_INVALID
    buffer = state.handles.get(dataset.buffers[index]) if index < len(dataset.buffers) else None
    if not isinstance(buffer, Buffer) or not buffer.address:
        return codes.GE_DYNAMIC_ADDR_INVALID
    dataset.gear = values
    model.gear = next(gear for gear in model.om.gears if gear.values == values)
    return codes.OK


@acl_function("mdl.create_dataset", gives="int")
def create_dataset(state: State) -> int:
    return state.new(Dataset())


@acl_function("mdl.add_dataset_buffer", "ii", gives="pair", code=codes.INVALID_PARAM)
def add_dataset_buffer(state: State, handle: int, buffer: int) -> tuple[int, int]:
    dataset = state.get(handle, Dataset, "mdl.add_dataset_buffer")
    if dataset is None or state.get(buffer, Buffer, "mdl.add_dataset_buffer") is None:
        return 0, codes.INVALID_PARAM
    dataset.buffers.append(buffer)
    return handle, codes.OK


@acl_function("mdl.get_dataset_num_buffers", "i", gives="int")
def get_dataset_num_buffers(state: State, handle: int) -> int:
    dataset = state.get(handle, Dataset, "mdl.get_dataset_num_buffers")
    return len(dataset.buffers) if dataset else 0


@acl_function("mdl.get_dataset_buffer", "ii", gives="int")
def get_dataset_buffer(state: State, handle: int, index: int) -> int:
    dataset = state.get(handle, Dataset, "mdl.get_dataset_buffer")
    if dataset is None or not 0 <= index < len(dataset.buffers):
        return 0
    return dataset.buffers[index]


@acl_function("mdl.set_dataset_tensor_desc", "iii", gives="pair", code=codes.INVALID_PARAM)
def set_dataset_tensor_desc(state: State, handle: int, desc: int, index: int) -> tuple[int, int]:
    dataset = state.get(handle, Dataset, "mdl.set_dataset_tensor_desc")
    found = state.get(desc, TensorDesc, "mdl.set_dataset_tensor_desc")
    if dataset is None or found is None or not 0 <= index < len(dataset.buffers):
        return 0, codes.INVALID_PARAM
    dataset.descs[index] = desc
    return handle, codes.OK


@acl_function("mdl.destroy_dataset", "i", code=codes.INVALID_PARAM)
def destroy_dataset(state: State, handle: int) -> int:
    """Frees neither the data buffers nor their memory."""
    if state.get(handle, Dataset, "mdl.destroy_dataset") is None:
        return codes.INVALID_PARAM
    state.drop(handle)
    return codes.OK
