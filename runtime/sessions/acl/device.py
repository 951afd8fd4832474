"""One device of this process: memory on it, copies to, from and within it, in order."""

from contextlib import ExitStack
from ctypes import c_uint8
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.manifest import Device as DeviceSpec
from runtime.errors import SessionError
from runtime.sessions.acl.driver import ALREADY_INITIALISED, Acl

__all__ = ["ALIGNMENT", "AclDevice", "HostBuffer", "aligned", "charged"]

# Values of pyACL's enumerations.
HUGE_PAGES_FIRST = 0
HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
MEMORY_KIND = {"ddr": 0, "hbm": 1}

# Bytes; of the size of weights (aclmdlSetExternalWeightAddress), and of an address that a graph
# reads or writes (hicann/ge, docs/zh/design/constraints/memory-constraints.md).
ALIGNMENT = 32
# With HUGE_PAGES_FIRST, more than a megabyte is taken in whole pages: hicann/runtime,
# docs/zh/api_ref/25-02_Enumerations.md.
PAGE, SMALL = 2 << 20, 1 << 20


def aligned(size: int) -> int:
    """The size rounded up to what the driver takes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def charged(size: int) -> int:
    """The memory that an allocation of this size takes."""
    return aligned(size) if size <= SMALL else -(-size // PAGE) * PAGE


@dataclass(frozen=True, slots=True)
class HostBuffer:
    """Page-locked memory, which asynchronous copies need, as an array of bytes."""

    address: int
    array: NDArray[np.uint8]


class AclDevice:
    """Opens a device; `stack` gives back all that is taken, in reverse order.

    Raises:
        SessionError: no such device, or another chip than the bundle is for.
    """

    def __init__(self, acl: Acl, index: int, spec: DeviceSpec, stack: ExitStack) -> None:
        self.acl, self._stack = acl, stack
        acl.do("init", allowed=(ALREADY_INITIALISED,))
        stack.callback(acl.finalize)
        count = acl.get("rt.get_device_count")
        if not 0 <= index < count:
            raise SessionError(
                "no such device",
                got=index,
                allowed=f"0 to {count - 1}" if count else "none here",
                code="invalid_value",
                param="device",
            )
        acl.do("rt.set_device", index)
        stack.callback(acl.release, "rt.reset_device", index)
        self.soc_name: str = acl.make("get_soc_name")
        if self.soc_name != spec.soc_name:
            raise SessionError(
                f"device {index} is another chip than the bundle is compiled for",
                got=self.soc_name,
                allowed=spec.soc_name,
                next_step="compile the exported bundle with the --target of this chip",
            )
        self._context = acl.get("rt.create_context", index)
        stack.callback(acl.release, "rt.destroy_context", self._context)
        self.stream = acl.get("rt.create_stream")
        stack.callback(acl.release, "rt.destroy_stream", self.stream)
        self._memory_kind = MEMORY_KIND[spec.memory]

    def use(self) -> None:
        """Makes the context that of the calling thread."""
        self.acl.do("rt.set_context", self._context)

    def settle(self) -> None:
        """Waits for what is under way before memory is given back, on whatever thread."""
        self.use()
        self.synchronize()

    def free_bytes(self) -> int:
        """Device memory that nobody has taken."""
        free, _ = self.acl.get("rt.get_mem_info", self._memory_kind)
        return int(free)

    def allocate(self, size: int) -> int:
        """Device memory; returns its address.

        rt.malloc would add 32 bytes, and by that a page to every matrix of a 7B.
        """
        address: int = self.acl.get("rt.malloc_align32", aligned(size), HUGE_PAGES_FIRST)
        self._stack.callback(self.acl.release, "rt.free", address)
        return address

    def allocate_host(self, size: int) -> HostBuffer:
        """Page-locked memory of the host."""
        address: int = self.acl.get("rt.malloc_host", size)
        self._stack.callback(self.acl.release, "rt.free_host", address)
        return HostBuffer(address, _bytes_at(address, size))

    def clear(self, address: int, size: int) -> None:
        """Fills device memory with zeros."""
        self.acl.do("rt.memset", address, size, 0, size)

    def upload(self, target: int, source: NDArray[np.uint8]) -> None:
        """Copies an array to the device and waits for it."""
        arguments = (target, source.nbytes, source.ctypes.data, source.nbytes, HOST_TO_DEVICE)
        self.acl.do("rt.memcpy", *arguments)

    def send(self, target: int, source: HostBuffer, size: int) -> None:
        """Queues a copy to the device."""
        self._queue(target, source.address, size, HOST_TO_DEVICE)

    def fetch(self, target: HostBuffer, source: int, size: int) -> None:
        """Queues a copy from the device."""
        self._queue(target.address, source, size, DEVICE_TO_HOST)

    def copy(self, target: int, source: int, size: int) -> None:
        """Queues a copy within the device."""
        self._queue(target, source, size, DEVICE_TO_DEVICE)

    def _queue(self, target: int, source: int, size: int, kind: int) -> None:
        self.acl.do("rt.memcpy_async", target, size, source, size, kind, self.stream)

    def synchronize(self) -> None:
        """Waits until everything queued is done."""
        self.acl.do("rt.synchronize_stream", self.stream)


def _bytes_at(address: int, size: int) -> NDArray[np.uint8]:
    return np.ctypeslib.as_array((c_uint8 * size).from_address(address))
