"""Memory for a KV cache: rows that no sequence has had yet take none."""

import math
import mmap
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["CacheMemory"]


class CacheMemory:
    """Zeros, (slots, ...), in small pages, each of which is taken when it is first written.

    numpy would ask for huge pages: the first row of a sequence would take 2 MiB for every head of
    every layer, of a 7B 2 GB that the system clears first. Reading a long sequence is a little
    slower in small pages; docs/benchmarks.md has both.

    Attributes:
        rows: the zeros.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        count = math.prod(shape)
        size = count * np.dtype(dtype).itemsize
        self._pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._advise(mmap.MADV_NOHUGEPAGE, 0, size)
        self.rows: NDArray[Any] = np.frombuffer(self._pages, dtype, count).reshape(shape)

    def expect_reading(self, slot: int) -> None:
        """Lets the system make huge pages of a slot's small ones in the background.

        It takes its time: Linux as it comes does 100 MB in a minute.
        """
        size = self.rows[slot].nbytes
        begin = slot * size // mmap.PAGESIZE * mmap.PAGESIZE
        self._advise(mmap.MADV_HUGEPAGE, begin, (slot + 1) * size - begin)

    def _advise(self, advice: int, begin: int, size: int) -> None:
        with suppress(OSError):  # a kernel without huge pages does not know them
            self._pages.madvise(advice, begin, size)
