"""An emulated card: a module `acl` and a library libascendcl.so, with what tests want to know.

Emulator.install() puts both in place. The counters, violations and leaks belong to one Emulator;
nothing is shared between two of them.
"""

import _ctypes
import ctypes
import functools
import sys
import types
from collections import Counter
from typing import Any, Final

import pytest

from tests.emulator import acl_base, acl_desc, acl_mdl, acl_memory, acl_rt
from tests.emulator.functions import FUNCTIONS
from tests.emulator.state import Context, State, Stream

__all__ = ["Emulator"]

LIBRARY: Final = "libascendcl.so"
_EXTERNAL_WEIGHT: Final = "aclmdlSetExternalWeightAddress"
_BODIES: Final = (acl_base, acl_desc, acl_mdl, acl_memory, acl_rt)  # importing fills the table

_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
)


class _Function(_ctypes.CFuncPtr):  # what a CDLL makes of a symbol: it knows no argument types
    _flags_ = _ctypes.FUNCFLAG_CDECL
    _restype_ = ctypes.c_int


class Emulator:
    """One card, or several that share their memory.

    memory_bytes and reserved_bytes: what npu-smi shows for a 310P3 of 24 GB, and what it uses idle.
    external_weight_api: whether the library is new enough for aclmdlSetExternalWeightAddress.
    """

    def __init__(
        self,
        soc_name: str = "Ascend310P3",
        memory_bytes: int = 21525 * 2**20,
        reserved_bytes: int = 1850 * 2**20,
        num_devices: int = 1,
        cann: str = "8.5.0",
        external_weight_api: bool = True,
    ) -> None:
        self.state = State(
            soc_name, memory_bytes, reserved_bytes, num_devices, cann, external_weight_api
        )
        self._callback = _CALLBACK(functools.partial(acl_mdl.set_external_weight, self.state))

    @property
    def calls(self) -> Counter[str]:
        """Calls by name, such as "rt.malloc" or "aclmdlSetExternalWeightAddress"."""
        return self.state.calls

    @property
    def transfers(self) -> dict[str, int]:
        """Bytes that memcpy and memcpy_async moved, by H2D, D2H, D2D and H2H."""
        return dict(self.state.memory.transfers)

    @property
    def violations(self) -> list[str]:
        """What would have crashed or corrupted a real machine."""
        return self.state.violations

    @property
    def freed_by_reset(self) -> list[str]:
        """What reset_device had to free because nobody else did."""
        return self.state.freed_by_reset

    def reset_counters(self) -> None:
        """Starts counting calls and transfers anew; planned failures are forgotten."""
        self.state.reset_counters()

    def fail_at(self, function: str, k: int, code: int | None = None) -> None:
        """Makes the k-th call from now on of a function do nothing and fail, once.

        Raises:
            ValueError: there is no such function.
        """
        if function not in FUNCTIONS and function != _EXTERNAL_WEIGHT:
            raise ValueError(f"acl has no function {function}")
        if function in FUNCTIONS and FUNCTIONS[function].gives == "void":
            raise ValueError(f"{function} cannot fail")
        self.state.plan_failure(function, k, code)

    def leaks(self) -> list[str]:
        """Names all that is still alive, and what was begun and never ended."""
        state = self.state
        found = [f"model {model.label} ({number})" for number, model in state.models.items()]
        for handle, thing in state.handles.items():
            if isinstance(thing, Context | Stream) and thing.default:
                continue
            found.append(f"{type(thing).__name__} {handle:#x}")
        own = {a.address for model in state.models.values() for a in model.own}
        for allocation in state.memory.device.values():
            if allocation.address not in own:
                found.append(f"device memory {allocation.address:#x}, {allocation.size} bytes")
        for address, (size, _) in state.memory.host.items():
            found.append(f"pinned memory {address:#x}, {size} bytes")
        for device, count in state.set_counts.items():
            if count:
                found.append(f"device {device}: {count} x set_device without reset_device")
        if state.num_inits:
            found.append("acl.init without acl.finalize")
        return found

    def modules(self) -> dict[str, types.ModuleType]:
        """The modules acl, acl.rt, acl.mdl and acl.util."""
        found = {"acl": types.ModuleType("acl")}
        for name, function in FUNCTIONS.items():
            parent, _, short = name.rpartition(".")
            path = f"acl.{parent}" if parent else "acl"
            if path not in found:
                found[path] = types.ModuleType(path)
                setattr(found["acl"], parent, found[path])
            setattr(found[path], short, functools.partial(function.call, self.state))
        return found

    def cdll(self, real: type[ctypes.CDLL]) -> type[ctypes.CDLL]:
        """A class that opens libascendcl.so as this card and all else as ctypes does."""
        emulator = self

        class EmulatedCdll(real):  # type: ignore[valid-type, misc]
            def __new__(cls, name: str | None, *arguments: Any, **options: Any) -> Any:
                if name == LIBRARY:
                    return _Library(emulator)
                return real(name, *arguments, **options)

        return EmulatedCdll

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Puts the modules and the library in place until the test ends."""
        for name, module in self.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(ctypes, "CDLL", self.cdll(ctypes.CDLL))


class _Library:
    """What CDLL gives: symbols on demand, an AttributeError for those that are not there."""

    def __init__(self, emulator: Emulator) -> None:
        if emulator.state.external_weight_api:
            address = ctypes.cast(emulator._callback, ctypes.c_void_p).value
            assert address is not None
            setattr(self, _EXTERNAL_WEIGHT, _Function(address))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{LIBRARY}: undefined symbol: {name}")
