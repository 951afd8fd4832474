"""Memory of the emulated card and its host: addresses, sizes, copies and who may touch what.

Device addresses lie outside of what a process can map, so reading one on the host crashes, as on
the real machine. Pages are touched only when something but zeros is written.
"""

import ctypes
import mmap
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from tests.emulator import codes

__all__ = ["Allocation", "Memory", "host_view"]

DEVICE_BASE: Final = 0x0012_0000_0000_0000  # beyond the 47 bits of a user address
ALIGN: Final = 2**21
BLOCK: Final = 2**20
POISON_LIMIT: Final = 16 * 2**20  # fresh memory holds rubbish: 0xff is NaN in every float
_NORESERVE: Final = getattr(mmap, "MAP_NORESERVE", 0x4000)

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


SMALL, PAGE = 1 << 20, 2 << 20


class Allocation:
    """A range of device memory and the pages behind it.

    `dirty` marks blocks that were written, `writes` counts how often that happened.
    """

    def __init__(self, address: int, size: int, charge: int) -> None:
        self.address, self.size, self.charge = address, size, charge
        self.owner = 0  # the device it is on
        self.users: list[str] = []  # models that were loaded over this memory
        self.writes = 0
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
        self.data: Bytes = np.frombuffer(pages, np.uint8)
        self.dirty = np.zeros(-(-size // BLOCK), np.bool_)
        if size <= POISON_LIMIT:
            self.data[:] = 0xFF
            self.dirty[:] = True

    def view(self, address: int, count: int) -> Bytes:
        """The bytes at an address, for reading."""
        start = address - self.address
        return self.data[start : start + count]

    def writable(self, address: int, count: int) -> Bytes:
        """The bytes at an address, for whoever writes them in place."""
        start = address - self.address
        self.dirty[start // BLOCK : -(-(start + count) // BLOCK)] = True
        self.writes += 1
        return self.data[start : start + count]

    def write(self, address: int, source: Bytes) -> None:
        """Copies into the memory; zeros over zeros touch nothing."""
        self.writes += 1
        start, done = address - self.address, 0
        while done < source.size:
            block = (start + done) // BLOCK
            count = min(source.size - done, (block + 1) * BLOCK - start - done)
            piece = source[done : done + count]
            if self.dirty[block] or piece.any():
                self.data[start + done : start + done + count] = piece
                self.dirty[block] = True
            done += count


class Memory:
    """All memory of one emulator.

    `violate` takes a sentence about something that a real machine would not survive.
    """

    def __init__(self, total: int, reserved: int, violate: Callable[[str], None]) -> None:
        self.total, self.free_bytes = total, total - reserved
        self.transfers: Counter[str] = Counter()
        self.device: dict[int, Allocation] = {}
        self.host: dict[int, tuple[int, mmap.mmap]] = {}
        self._freed: dict[int, Allocation] = {}
        self._freed_host: dict[int, tuple[int, mmap.mmap]] = {}
        self._next = DEVICE_BASE
        self._violate = violate

    def malloc(self, size: int, *, padding: int = 32) -> Allocation | None:
        """Device memory, or None when the card is full.

        32 bytes of padding, then rounded up to 32: runtime, src/acl/aclrt_impl/memory.cpp. With
        huge pages first, more than a megabyte takes pages of 2 MiB: 25-02_Enumerations.md; that
        smaller ones are charged by the byte is a guess.
        """
        charge = (size + 31 + padding) // 32 * 32
        if charge > SMALL:
            charge = -(-charge // PAGE) * PAGE
        if charge > self.free_bytes:
            return None
        allocation = Allocation(self._next, size, charge)
        self._next += (charge + ALIGN) // ALIGN * ALIGN + ALIGN
        self.free_bytes -= charge
        self.device[allocation.address] = allocation
        return allocation

    def free(self, address: int) -> int:
        """Gives device memory back; a return code."""
        allocation = self.device.pop(address, None)
        if allocation is None:
            what = "freed twice" if address in self._freed else "is no start of device memory"
            self._violate(f"rt.free: {address:#x} {what}")
            return codes.RT_PARAM_INVALID
        for user in allocation.users:
            self._violate(f"rt.free: {address:#x} is still used by {user}")
        self.free_bytes += allocation.charge
        self._freed[address] = allocation
        if not allocation.users:  # the pages go, the range stays known as freed
            allocation.data = np.empty(0, np.uint8)
        return codes.OK

    def malloc_host(self, size: int) -> int:
        """Pinned memory of the host: its address."""
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        self.host[address] = (size, pages)
        return address

    def free_host(self, address: int) -> int:
        """Gives pinned memory back; a return code."""
        if address not in self.host:
            what = "freed twice" if address in self._freed_host else "is no pinned memory"
            self._violate(f"rt.free_host: {address:#x} {what}")
            return codes.RT_PARAM_INVALID
        # The range stays mapped, so that nothing else comes to lie there, but its pages go.
        _, pages = self._freed_host[address] = self.host.pop(address)
        pages.madvise(mmap.MADV_DONTNEED)
        return codes.OK

    def is_device(self, address: int) -> bool:
        """Whether an address belongs to the card, freed or not."""
        return address >= DEVICE_BASE

    def is_pinned(self, address: int) -> bool:
        """Whether malloc_host gave the memory."""
        return any(start <= address < start + size for start, (size, _) in self.host.items())

    def find(self, address: int, count: int, where: str) -> Allocation | None:
        """The live device memory that holds a whole range; else a violation and None."""
        starts = list(self.device)  # addresses only grow, so they are sorted
        index = bisect_right(starts, address) - 1
        if index >= 0:
            allocation = self.device[starts[index]]
            if address + count <= allocation.address + allocation.size:
                return allocation
            if address < allocation.address + allocation.size:
                self._violate(f"{where}: {count} bytes at {address:#x} leave their allocation")
                return None
        if not self.is_device(address):
            self._violate(f"{where}: {address:#x} is a host pointer, not device memory")
        else:
            self._violate(f"{where}: {address:#x} is freed or unknown device memory")
        return None

    def check_host(self, address: int, count: int, where: str) -> bool:
        """Whether a range may be host memory; only what is known to be wrong is refused."""
        if self.is_device(address):
            self._violate(f"{where}: {address:#x} is device memory, not a host pointer")
            return False
        for start, (size, _) in self._freed_host.items():
            if start <= address < start + size:
                self._violate(f"{where}: {address:#x} is freed pinned memory")
                return False
        for start, (size, _) in self.host.items():
            if start <= address < start + size < address + count:
                self._violate(f"{where}: {count} bytes at {address:#x} leave their pinned memory")
                return False
        return True

    def check_copy(self, dst: int, src: int, count: int, kind: int, where: str) -> bool:
        """Whether both sides of a copy are what the kind says."""
        to_device = kind in (codes.H2D, codes.D2D)
        from_device = kind in (codes.D2H, codes.D2D)
        if kind == codes.DEFAULT:
            to_device, from_device = self.is_device(dst), self.is_device(src)
        fine = True
        for address, on_device in ((dst, to_device), (src, from_device)):
            if on_device:
                fine &= self.find(address, count, where) is not None
            else:
                fine &= self.check_host(address, count, where)
        return fine

    def copy(self, dst: int, src: int, count: int, where: str) -> int:
        """Copies between checked ranges and counts the bytes; a return code."""
        source = self._readable(src, count, where)
        if source is None:
            return codes.RT_PARAM_INVALID
        if self.is_device(dst):
            target = self.find(dst, count, where)
            if target is None:
                return codes.RT_PARAM_INVALID
            target.write(dst, source)
        else:
            host_view(dst, count)[:] = source
        kind = 2 * self.is_device(src) + self.is_device(dst)
        self.transfers[codes.KINDS[kind]] += count
        return codes.OK

    def fill(self, address: int, value: int, count: int, where: str) -> int:
        """Sets bytes on either side; a return code."""
        if not self.is_device(address):
            if not self.check_host(address, count, where):
                return codes.RT_PARAM_INVALID
            host_view(address, count)[:] = value & 0xFF
            return codes.OK
        target = self.find(address, count, where)
        if target is None:
            return codes.RT_PARAM_INVALID
        pattern = np.full(BLOCK, value & 0xFF, np.uint8)
        for start in range(0, count, BLOCK):
            target.write(address + start, pattern[: min(BLOCK, count - start)])
        return codes.OK

    def _readable(self, address: int, count: int, where: str) -> Bytes | None:
        if not self.is_device(address):
            return host_view(address, count)
        allocation = self.find(address, count, where)
        return None if allocation is None else allocation.view(address, count)


def host_view(address: int, count: int) -> Bytes:
    """The bytes at an address of this process, without a copy."""
    return np.ctypeslib.as_array((ctypes.c_ubyte * count).from_address(address))
