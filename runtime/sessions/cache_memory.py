"""Memory for a KV cache: rows that no sequence has had yet take none."""

import math
import mmap
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["HUGE_PAGE", "CacheMemory"]

HUGE_PAGE = 2 << 20  # bytes, on x86-64 and on aarch64 with pages of 4 KiB


class CacheMemory:
    """Zeros in pages of the system's usual size; each is taken at its first write.

    numpy asks for huge pages. With those the first row of a sequence takes one for every head of
    every layer, 2 GB for a 7B, and waits until the system has cleared them. Long sequences are read
    a little slower in small pages; docs/benchmarks.md has both.

    Attributes:
        array: the zeros.

    Raises:
        MemoryError: the system does not give the addresses.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        count = math.prod(shape)
        size = count * np.dtype(dtype).itemsize
        try:
            self._pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"{size:,} bytes of a KV cache") from error
        self._advise(mmap.MADV_NOHUGEPAGE, 0, size)
        self.array: NDArray[Any] = np.frombuffer(self._pages, dtype, count).reshape(shape)

    def expect_reading(self, i: int) -> None:
        """Lets the system make huge pages of array[i], where rows were written, in the background.

        It takes its time: Linux as it comes does 100 MB in a minute. Where pages of array[i] were
        never written, their first write from then on takes a huge page at once.
        """
        size = self.array[i].nbytes
        begin = i * size // mmap.PAGESIZE * mmap.PAGESIZE
        self._advise(mmap.MADV_HUGEPAGE, begin, (i + 1) * size - begin)

    def _advise(self, advice: int, begin: int, size: int) -> None:
        with suppress(OSError):  # a kernel without huge pages does not know them
            self._pages.madvise(advice, begin, size)
