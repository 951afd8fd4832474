"""Claims about the memory of a cache: what was not written takes none."""

import subprocess
import sys

import numpy as np
import pytest

from runtime.sessions.cache_memory import CacheMemory

HEADS, ROWS, SIZE = 64, 4096, 128  # 2 MiB a head in float32

# Writes 8 rows of every head, and prints by how many bytes that grew the process.
GROWTH = f"""
import numpy as np
from runtime.sessions.cache_memory import CacheMemory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

cache = CacheMemory((1, {HEADS}, {ROWS}, {SIZE}), np.float32).rows
before = resident()
cache[:, :, :8] = 1
print(resident() - before)
"""


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_it_is_zeros_that_can_be_written(dtype: type) -> None:
    cache = CacheMemory((2, 3, 5), dtype).rows
    assert cache.shape == (2, 3, 5)
    assert cache.dtype == dtype
    assert not cache.any()
    cache[1, 2] = 7
    assert cache.sum() == 7 * 5


def test_the_first_rows_of_a_sequence_take_little_more_than_themselves() -> None:
    """In numpy's own memory they took 128 MiB where the system gives huge pages on advice."""
    ran = subprocess.run([sys.executable, "-c", GROWTH], check=True, capture_output=True, text=True)
    written = HEADS * 8 * SIZE * 4
    assert int(ran.stdout) < 2 * written


@pytest.mark.parametrize("rows", [1, 300, ROWS])
def test_a_slot_that_is_read_much_keeps_what_it_has(rows: int) -> None:
    """Slots of any size, so that none but the first begins with a page."""
    memory = CacheMemory((3, rows, 100), np.int8)
    memory.rows[:] = np.arange(3)[:, None, None]
    for slot in (2, 0, 1):
        memory.expect_reading(slot)
    assert [set(np.unique(each)) for each in memory.rows] == [{0}, {1}, {2}]
