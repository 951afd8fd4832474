"""Functions of `acl.rt`: devices, contexts, streams, memory and events.

Order of the checks: runtime, src/acl/aclrt_impl and docs/zh/api_ref.
"""

import time

from tests.emulator import codes
from tests.emulator.functions import acl_function
from tests.emulator.state import Context, Event, State, Stream

__all__: list[str] = []


@acl_function("rt.set_device", "i", code=codes.RT_INVALID_DEVICE)
def set_device(state: State, device: int) -> int:
    if not 0 <= device < state.num_devices:
        return codes.RT_INVALID_DEVICE
    state.set_counts[device] += 1
    state.context = state.defaults.setdefault(device, Context(device, default=True))
    return codes.OK


@acl_function("rt.reset_device", "i", code=codes.RT_INVALID_DEVICE)
def reset_device(state: State, device: int) -> int:
    """Counts down; at zero it frees all that is left: api_ref/04_device_management.md."""
    if not state.set_counts[device]:
        state.violate(f"rt.reset_device: device {device} was not set")
        return codes.RT_INVALID_DEVICE
    state.set_counts[device] -= 1
    if not state.set_counts[device]:
        _free_device(state, device)
    return codes.OK


@acl_function("rt.reset_device_force", "i", code=codes.RT_INVALID_DEVICE)
def reset_device_force(state: State, device: int) -> int:
    if not 0 <= device < state.num_devices:
        return codes.RT_INVALID_DEVICE
    state.set_counts[device] = 0
    _free_device(state, device)
    return codes.OK


def _free_device(state: State, device: int) -> None:
    default = state.defaults.pop(device, None)
    for model in state.models.values():
        if model.context is not None and model.context.device != device:
            continue
        state.violate(f"rt.reset_device: {model.label} is still loaded")
        model.lost = True
    for handle, thing in list(state.handles.items()):
        owner = thing.context if isinstance(thing, Stream) else thing
        if not isinstance(owner, Context) or owner.device != device:
            continue
        if isinstance(thing, Stream) and thing.default:
            state.drain(thing)
        else:
            state.freed_by_reset.append(f"{type(thing).__name__} {handle:#x}")
        state.drop(handle)
    for allocation in list(state.memory.device.values()):
        if allocation.owner != device:
            continue
        text = f"{allocation.size} bytes of device memory at {allocation.address:#x}"
        state.freed_by_reset.append(text)
        allocation.users.clear()
        state.memory.free(allocation.address)
    if state.context is default or (state.context and state.context.device == device):
        state.context = None


@acl_function("rt.get_device", gives="pair", context=True)
def get_device(state: State) -> tuple[int, int]:
    return (state.context.device if state.context else 0), codes.OK


@acl_function("rt.get_device_count", gives="pair")
def get_device_count(state: State) -> tuple[int, int]:
    return state.num_devices, codes.OK


@acl_function("rt.get_run_mode", gives="pair", context=True)
def get_run_mode(state: State) -> tuple[int, int]:
    return 1, codes.OK  # ACL_HOST: the program runs beside the card


@acl_function("rt.create_context", "i", gives="pair", code=codes.RT_INVALID_DEVICE)
def create_context(state: State, device: int) -> tuple[int, int]:
    if not 0 <= device < state.num_devices:
        return 0, codes.RT_INVALID_DEVICE
    state.context = Context(device)
    return state.new(state.context), codes.OK


@acl_function("rt.destroy_context", "i")
def destroy_context(state: State, handle: int) -> int:
    context = state.get(handle, Context, "rt.destroy_context")
    if context is None:
        return codes.INVALID_PARAM
    if context.default:
        state.violate("rt.destroy_context: the default context belongs to set_device")
        return codes.RT_PARAM_INVALID
    for other, thing in list(state.handles.items()):
        if isinstance(thing, Stream) and thing.context is context:
            if not thing.default:
                state.violate(f"rt.destroy_context: its stream {other:#x} still lives")
            state.drop(other)
    state.drop(handle)
    if state.context is context:  # the thread falls back to the default one
        state.context = state.defaults.get(context.device)
    return codes.OK


@acl_function("rt.set_context", "i", code=codes.INVALID_PARAM)
def set_context(state: State, handle: int) -> int:
    context = state.get(handle, Context, "rt.set_context")
    if context is None:
        return codes.INVALID_PARAM
    state.context = context
    return codes.OK


@acl_function("rt.get_context", gives="pair", context=True)
def get_context(state: State) -> tuple[int, int]:
    for handle, thing in state.handles.items():
        if thing is state.context:
            return handle, codes.OK
    return state.new(state.context), codes.OK  # the default context has no handle until now


@acl_function("rt.create_stream", gives="pair", context=True)
def create_stream(state: State) -> tuple[int, int]:
    assert state.context is not None
    return state.new(Stream(state.context)), codes.OK


@acl_function("rt.destroy_stream", "i", code=codes.INVALID_PARAM, context=True)
def destroy_stream(state: State, handle: int) -> int:
    if not handle:
        return codes.INVALID_PARAM
    stream, code = state.stream(handle, "rt.destroy_stream")
    if stream is None:
        return code
    if stream.queue:
        state.violate(f"rt.destroy_stream: {len(stream.queue)} tasks were not synchronised")
    state.drop(handle)
    return codes.OK


@acl_function("rt.synchronize_stream", "i", code=codes.RT_MODEL_EXECUTE)
def synchronize_stream(state: State, handle: int) -> int:
    stream, code = state.stream(handle, "rt.synchronize_stream")
    return state.drain(stream) if stream else code


@acl_function("rt.synchronize_stream_with_timeout", "ii", code=codes.RT_MODEL_EXECUTE)
def synchronize_stream_with_timeout(state: State, handle: int, milliseconds: int) -> int:
    if milliseconds < -1:
        return codes.RT_PARAM_INVALID
    return synchronize_stream(state, handle)


@acl_function("rt.create_event", gives="pair", context=True)
def create_event(state: State) -> tuple[int, int]:
    return state.new(Event()), codes.OK


@acl_function("rt.destroy_event", "i", code=codes.INVALID_PARAM, context=True)
def destroy_event(state: State, handle: int) -> int:
    if state.get(handle, Event, "rt.destroy_event") is None:
        return codes.INVALID_PARAM
    state.drop(handle)
    return codes.OK


@acl_function("rt.record_event", "ii", context=True)
def record_event(state: State, handle: int, stream_handle: int) -> int:
    event = state.get(handle, Event, "rt.record_event")
    stream, code = state.stream(stream_handle, "rt.record_event")
    if event is None or stream is None:
        return code or codes.INVALID_PARAM
    event.recorded, event.time = True, None

    def reach() -> int:
        event.time = time.monotonic()
        return codes.OK

    stream.queue.append(reach)
    return codes.OK


@acl_function("rt.event_elapsed_time", "ii", gives="pair", context=True)
def event_elapsed_time(state: State, start: int, end: int) -> tuple[float, int]:
    events = [state.get(handle, Event, "rt.event_elapsed_time") for handle in (start, end)]
    if None in events:
        return 0.0, codes.INVALID_PARAM
    times = [event.time for event in events if event is not None]
    if times[0] is None or times[1] is None:
        return 0.0, codes.RT_EVENT_NOT_COMPLETE
    return (times[1] - times[0]) * 1e3, codes.OK
