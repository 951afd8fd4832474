"""The part of `acl.rt` that deals with memory.

Order of the checks: runtime, src/acl/aclrt_impl/memory.cpp and src/runtime/api/impl/api_error.cc.
"""

from tests.emulator import codes
from tests.emulator.functions import acl_function
from tests.emulator.state import State

__all__: list[str] = []


@acl_function("rt.malloc", "ii", gives="pair", code=codes.RT_DEVICE_OOM, context=True)
def malloc(state: State, size: int, policy: int) -> tuple[int, int]:
    return _malloc(state, size, policy, 32)


@acl_function("rt.malloc_align32", "ii", gives="pair", code=codes.RT_DEVICE_OOM, context=True)
def malloc_align32(state: State, size: int, policy: int) -> tuple[int, int]:
    return _malloc(state, size, policy, 0)


def _malloc(state: State, size: int, policy: int, padding: int) -> tuple[int, int]:
    if size <= 0 or policy not in codes.MALLOC_POLICIES:
        return 0, codes.INVALID_PARAM
    allocation = state.memory.malloc(size, padding=padding)
    if allocation is None:
        state.report(f"EE1001: malloc of {size} bytes failed: device memory is exhausted")
        return 0, codes.RT_DEVICE_OOM
    allocation.owner = state.context.device if state.context else 0
    return allocation.address, codes.OK


@acl_function("rt.free", "i", context=True)
def free(state: State, address: int) -> int:
    return state.memory.free(address) if address else codes.INVALID_PARAM


@acl_function("rt.malloc_host", "i", gives="pair", code=codes.RT_FEATURE_NOT_SUPPORT, context=True)
def malloc_host(state: State, size: int) -> tuple[int, int]:
    if size <= 0:
        return 0, codes.INVALID_PARAM
    return state.memory.malloc_host(size), codes.OK


@acl_function("rt.free_host", "i")
def free_host(state: State, address: int) -> int:
    return state.memory.free_host(address) if address else codes.INVALID_PARAM


@acl_function("rt.memset", "iiii")
def memset(state: State, address: int, limit: int, value: int, count: int) -> int:
    if count == 0:
        return codes.OK
    if not address:
        return codes.INVALID_PARAM
    if not 0 < count <= limit:
        return codes.RT_PARAM_INVALID
    if state.context is None:
        return codes.RT_CONTEXT_NULL
    return state.memory.fill(address, value, count, "rt.memset")


@acl_function("rt.memcpy", "iiiii")
def memcpy(state: State, dst: int, limit: int, src: int, count: int, kind: int) -> int:
    code, finished = _check_copy(state, dst, limit, src, count, kind, "rt.memcpy")
    if finished:
        return code
    return state.memory.copy(dst, src, count, "rt.memcpy")


@acl_function("rt.memcpy_async", "iiiiii")
def memcpy_async(
    state: State, dst: int, limit: int, src: int, count: int, kind: int, stream_handle: int
) -> int:
    """Queued between device and pinned memory; with other host memory it waits for its end.

    runtime, docs/zh/api_ref/11-03_memory_copy_and_set.md. A copy inside the host is refused.
    """
    if count and kind == codes.H2H:
        return codes.RT_FEATURE_NOT_SUPPORT
    code, finished = _check_copy(state, dst, limit, src, count, kind, "rt.memcpy_async")
    if finished:
        return code
    stream, code = state.stream(stream_handle, "rt.memcpy_async")
    if stream is None:
        return code
    stream.queue.append(lambda: state.memory.copy(dst, src, count, "rt.memcpy_async"))
    memory = state.memory
    pageable = [p for p in (dst, src) if not memory.is_device(p) and not memory.is_pinned(p)]
    return state.drain(stream) if pageable else codes.OK


def _check_copy(
    state: State, dst: int, limit: int, src: int, count: int, kind: int, where: str
) -> tuple[int, bool]:
    """A return code and whether it is final."""
    if count == 0:
        return codes.OK, True
    if not dst or not src or kind not in range(5):
        return codes.INVALID_PARAM, True
    if limit == 0 or count > limit:
        return codes.RT_PARAM_INVALID, True
    if dst == src:
        return codes.OK, True
    if state.context is None:
        return codes.RT_CONTEXT_NULL, True
    if not state.memory.check_copy(dst, src, count, kind, where):
        return codes.RT_PARAM_INVALID, True
    return codes.OK, False


@acl_function("rt.get_mem_info", "i", gives="triple", context=True)
def get_mem_info(state: State, attribute: int) -> tuple[int, int, int]:
    """Attribute 0 is DDR (310P), 1 is HBM (910B); zeros for the other one are a guess."""
    if attribute not in range(12):
        return 0, 0, codes.INVALID_PARAM
    right = 1 if state.soc_name.startswith("Ascend910") else 0
    if attribute != right:
        return 0, 0, codes.OK
    return state.memory.free_bytes, state.memory.total, codes.OK
