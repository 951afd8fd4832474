"""The emulated card keeps the protocol of pyACL: codes, threads, memory, leaks."""

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.emulator.device import Emulator


def test_start_and_end_are_counted(emulator: Emulator) -> None:
    import acl

    assert acl.rt.set_device(0) == 100001
    assert acl.init() == 0
    assert acl.init() == 100002
    assert acl.rt.malloc(8, 0) == (0, 107002)
    assert acl.rt.set_device(1) == 107001
    assert acl.finalize_reference() == (1, 0)
    assert acl.finalize() == 0
    assert acl.finalize() == 100037
    assert acl.get_version() == (8, 5, 0, 0)


def test_a_context_belongs_to_a_thread(acl: ModuleType) -> None:
    context, _ = acl.rt.get_context()
    stream, _ = acl.rt.create_stream()
    codes: list[int] = []

    def work() -> None:
        codes.append(acl.rt.malloc(64, 0)[1])
        acl.rt.set_context(context)
        codes.append(acl.rt.malloc(64, 0)[1])
        acl.rt.create_context(0)
        codes.append(acl.rt.synchronize_stream(stream))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [107002, 0, 107003]


def test_memory_is_guarded(acl: ModuleType, emulator: Emulator) -> None:
    host = np.zeros(64, np.uint8)
    address = host.ctypes.data
    assert acl.rt.malloc(0, 0) == (0, 100000)
    assert acl.rt.malloc(64, 99) == (0, 100000)
    pointer, _ = acl.rt.malloc(64, 0)
    assert acl.rt.memcpy(0, 0, 0, 0, 9) == 0
    assert acl.rt.memcpy(pointer, 64, 0, 64, 1) == 100000
    assert acl.rt.memcpy(pointer, 64, address, 64, 9) == 100000
    assert acl.rt.memcpy(pointer, 32, address, 64, 1) == 107000
    assert acl.rt.memset(pointer, 64, 0, 65) == 107000
    assert acl.rt.memcpy(pointer, 64, pointer, 64, 3) == 0
    assert emulator.violations == []
    wrong: list[Callable[[], int]] = [
        lambda: acl.rt.memcpy(pointer, 65, address, 65, 1),
        lambda: acl.rt.memcpy(address, 64, address + 1, 63, 1),
        lambda: acl.rt.memcpy(pointer, 64, pointer + 1, 63, 2),
        lambda: acl.rt.free(pointer + 32),
        lambda: acl.rt.free(pointer),
        lambda: acl.rt.free(pointer),
        lambda: acl.rt.memcpy(pointer, 64, address, 64, 1),
    ]
    assert [bool(call()) for call in wrong] == [True] * 4 + [False] + [True] * 2
    assert len(emulator.violations) == 6
    with pytest.raises(RuntimeError, match="segmentation fault"):
        acl.util.ptr_to_numpy(pointer, (64,), 2)


def test_fresh_memory_is_rubbish_and_zeros_cost_nothing(acl: ModuleType) -> None:
    pointer, _ = acl.rt.malloc(64, 0)
    host = np.zeros(16, np.float32)
    acl.rt.memcpy(host.ctypes.data, 64, pointer, 64, 2)
    assert np.isnan(host).all()
    acl.rt.memset(pointer, 64, 0, 64)
    acl.rt.memcpy(host.ctypes.data, 64, pointer, 64, 2)
    assert not host.any()


def test_the_leaks_are_named(emulator: Emulator) -> None:
    import acl

    acl.init()
    acl.rt.set_device(0)
    acl.rt.create_stream()
    acl.create_data_buffer(acl.rt.malloc(64, 0)[0], 64)
    acl.mdl.create_desc()
    acl.rt.malloc_host(64)
    words = " ".join(emulator.leaks())
    for word in (
        "Stream",
        "Buffer",
        "Description",
        "device memory",
        "pinned",
        "set_device",
        "init",
    ):
        assert word in words
    acl.rt.reset_device(0)
    assert len(emulator.freed_by_reset) == 2
    assert "device memory" not in " ".join(emulator.leaks())


def test_a_planned_failure_does_nothing_once(acl: ModuleType, emulator: Emulator) -> None:
    emulator.fail_at("rt.malloc", 2)
    emulator.fail_at("create_data_buffer", 1)
    emulator.fail_at("rt.synchronize_stream", 1, 507014)
    assert acl.rt.malloc(64, 0)[1] == 0
    assert acl.rt.malloc(64, 0) == (0, 207018)
    assert acl.get_recent_err_msg() == "EZ9999: injected in rt.malloc"
    assert acl.rt.malloc(64, 0)[1] == 0
    assert acl.create_data_buffer(1, 1) == 0
    assert acl.rt.synchronize_stream(0) == 507014
    assert acl.rt.synchronize_stream(0) == 0
    with pytest.raises(ValueError, match="no function"):
        emulator.fail_at("rt.mallok", 1)


@pytest.mark.parametrize("arguments", [("8", 0), (8.0, 0), (8,), (8, 0, 0)])
def test_wrong_types_are_no_return_codes(acl: ModuleType, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=r"acl\.rt\.malloc args parse failed"):
        acl.rt.malloc(*arguments)


def test_events_measure_what_was_waited_for(acl: ModuleType) -> None:
    events = [acl.rt.create_event()[0] for _ in range(2)]
    host = np.zeros(2**20, np.uint8)
    pointer, _ = acl.rt.malloc(host.nbytes, 0)
    assert acl.rt.record_event(events[0], 0) == 0
    assert acl.rt.memcpy_async(pointer, host.nbytes, host.ctypes.data, host.nbytes, 1, 0) == 0
    assert acl.rt.record_event(events[1], 0) == 0
    assert acl.rt.event_elapsed_time(*events)[1] != 0
    acl.rt.synchronize_stream(0)
    elapsed, code = acl.rt.event_elapsed_time(*events)
    assert code == 0
    assert elapsed > 0  # a megabyte was copied between them
    assert acl.rt.event_elapsed_time(*reversed(events)) == (-elapsed, 0)
