"""Functions of `acl` itself and of `acl.util`: start, end, data buffers, pointers of Python."""

import ctypes
import re
import warnings
from typing import Any

import numpy as np

from tests.emulator import codes
from tests.emulator.functions import acl_function
from tests.emulator.memory import host_view
from tests.emulator.state import Buffer, State, TensorDesc

__all__: list[str] = []


@acl_function("init", "|s", code=codes.INVALID_PARAM, early=True)
def init(state: State, config: str = "") -> int:
    state.num_inits += 1  # a repeated call fails and still counts
    return codes.OK if state.num_inits == 1 else codes.REPEAT_INITIALIZE


@acl_function("finalize", early=True)
def finalize(state: State) -> int:
    if not state.num_inits:
        return codes.REPEAT_FINALIZE
    state.num_inits = 0
    for model in state.models.values():
        state.violate(f"finalize: {model.label} is still loaded")
    return codes.OK


@acl_function("finalize_reference", gives="pair", early=True)
def finalize_reference(state: State) -> tuple[int, int]:
    if not state.num_inits:
        return 0, codes.REPEAT_FINALIZE
    if state.num_inits == 1:
        return 0, finalize(state)
    state.num_inits -= 1
    return state.num_inits, codes.OK


@acl_function("get_version", gives="version", early=True)
def get_version(state: State) -> tuple[int, int, int, int]:
    numbers = [int(number) for number in re.findall(r"\d+", state.cann)]
    major, minor, patch = (*numbers, 0, 0)[:3]
    return major, minor, patch, codes.OK


@acl_function("get_soc_name", gives="text", early=True)
def get_soc_name(state: State) -> str:
    return state.soc_name


@acl_function("get_recent_err_msg", gives="text", early=True)
def get_recent_err_msg(state: State) -> str:
    return state.take_error()


@acl_function("create_data_buffer", "ii", gives="int")
def create_data_buffer(state: State, address: int, size: int) -> int:
    return state.new(Buffer(address, size))


@acl_function("destroy_data_buffer", "i", code=codes.INVALID_PARAM)
def destroy_data_buffer(state: State, handle: int) -> int:
    if state.get(handle, Buffer, "destroy_data_buffer") is None:
        return codes.INVALID_PARAM
    state.drop(handle)
    return codes.OK


@acl_function("get_data_buffer_addr", "i", gives="int")
def get_data_buffer_addr(state: State, handle: int) -> int:
    buffer = state.get(handle, Buffer, "get_data_buffer_addr")
    return buffer.address if buffer else 0


@acl_function("get_data_buffer_size", "i", gives="int")
def get_data_buffer_size(state: State, handle: int) -> int:
    buffer = state.get(handle, Buffer, "get_data_buffer_size")
    return buffer.size if buffer else 0


acl_function("get_data_buffer_size_v2", "i", gives="int")(get_data_buffer_size)


@acl_function("update_data_buffer", "iii", code=codes.INVALID_PARAM)
def update_data_buffer(state: State, handle: int, address: int, size: int) -> int:
    buffer = state.get(handle, Buffer, "update_data_buffer")
    if buffer is None:
        return codes.INVALID_PARAM
    buffer.address, buffer.size = address, size
    return codes.OK


@acl_function("create_tensor_desc", "ili", gives="int")
def create_tensor_desc(state: State, dtype: int, dims: list[int], layout: int) -> int:
    if dtype not in codes.DTYPES.values() or layout not in codes.FORMATS:
        return 0
    return state.new(TensorDesc(dtype, tuple(dims), layout))


@acl_function("destroy_tensor_desc", "i", gives="void")
def destroy_tensor_desc(state: State, handle: int) -> None:
    if state.get(handle, TensorDesc, "destroy_tensor_desc") is not None:
        state.drop(handle)


@acl_function("util.bytes_to_ptr", "b", gives="int", early=True)
def bytes_to_ptr(state: State, data: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


@acl_function("util.ptr_to_bytes", "ii", gives="text", early=True)
def ptr_to_bytes(state: State, address: int, size: int) -> bytes:
    _check_readable(state, address, size, "util.ptr_to_bytes")
    return host_view(address, size).tobytes()


@acl_function("util.numpy_to_ptr", "a", gives="int", early=True)
def numpy_to_ptr(state: State, array: np.ndarray[Any, Any]) -> int:
    warnings.warn("numpy_to_ptr is deprecated", DeprecationWarning, stacklevel=4)
    return int(array.ctypes.data)


@acl_function("util.numpy_contiguous_to_ptr", "a", gives="int", early=True)
def numpy_contiguous_to_ptr(state: State, array: np.ndarray[Any, Any]) -> int:
    if not array.flags.c_contiguous:  # what the real function does then is not known
        raise TypeError("acl.util.numpy_contiguous_to_ptr args parse failed!")
    return int(array.ctypes.data)


@acl_function("util.ptr_to_numpy", "ioi", gives="int", early=True)
def ptr_to_numpy(state: State, address: int, shape: Any, number: int) -> np.ndarray[Any, Any]:
    """A view, no copy."""
    if not isinstance(shape, tuple) or number not in codes.NUMPY_TYPES:
        raise TypeError("acl.util.ptr_to_numpy args parse failed!")
    dtype = np.dtype(codes.NUMPY_TYPES[number])
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    _check_readable(state, address, size, "util.ptr_to_numpy")
    return host_view(address, size).view(dtype).reshape(shape)


def _check_readable(state: State, address: int, size: int, where: str) -> None:
    """The real thing dies of a segmentation fault; a test needs an exception."""
    if not address or not state.memory.check_host(address, size, where):
        raise RuntimeError(f"{where}: segmentation fault on the real machine at {address:#x}")
