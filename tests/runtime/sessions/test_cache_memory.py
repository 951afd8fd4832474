"""Claims about the memory of a cache: what was not written takes none."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.bundle.reader import load_bundle
from runtime.sessions import open_session
from runtime.sessions.base import Chunk
from runtime.sessions.cache_memory import CacheMemory
from runtime.sessions.onnx.cpu import CpuSession

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
HEADS, ROWS, SIZE = 64, 4096, 128  # 2 MiB a head in float32
HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ")

huge_pages = pytest.mark.skipif(
    not SETTING.exists() or "[never]" in SETTING.read_text(), reason="a system without huge pages"
)


@dataclass(slots=True)
class Mapping:
    """One of this process, by /proc/self/smaps."""

    begin: int
    end: int
    resident: int = 0
    flags: tuple[str, ...] = ()


def mappings() -> Iterator[Mapping]:
    found: Mapping | None = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = HEAD.match(line)
        if head:
            found = Mapping(int(head[1], 16), int(head[2], 16))
        elif found and line.startswith("Rss:"):
            found.resident = 1024 * int(line.split()[1])
        elif found and line.startswith("VmFlags:"):
            found.flags = tuple(line.split()[1:])
            yield found


def resident(array: NDArray[Any]) -> int:
    """Bytes of memory behind an array that has mappings of its own."""
    begin, end = array.ctypes.data, array.ctypes.data + array.nbytes
    return sum(each.resident for each in mappings() if begin <= each.begin < end)


def advice(array: NDArray[Any]) -> str:
    """What the system was told about the pages in the middle: nh, no huge ones; hg, huge ones."""
    middle = array.ctypes.data + array.nbytes // 2
    [found] = [each for each in mappings() if each.begin <= middle < each.end]
    [told] = {"nh", "hg"} & set(found.flags)
    return told


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_it_is_zeros_that_can_be_written(dtype: type) -> None:
    cache = CacheMemory((2, 3, 5), dtype).array
    assert cache.shape == (2, 3, 5)
    assert cache.dtype == dtype
    assert not cache.any()
    cache[1, 2] = 7
    assert cache.sum() == 7 * 5


@huge_pages
def test_the_first_rows_of_a_sequence_take_little_more_than_themselves() -> None:
    """In numpy's own memory they took 128 MiB."""
    cache = CacheMemory((1, HEADS, ROWS, SIZE), np.float32).array
    assert resident(cache) == 0
    cache[:, :, :8] = 1
    written = HEADS * 8 * SIZE * 4
    assert written <= resident(cache) <= 2 * written


@huge_pages
def test_a_slot_that_is_read_much_may_get_huge_pages_and_no_other() -> None:
    memory = CacheMemory((3, 100, 1000), np.int8)
    memory.expect_reading(1)
    assert [advice(slot) for slot in memory.array] == ["nh", "hg", "nh"]


@pytest.mark.parametrize("rows", [1, 300, ROWS])
def test_a_slot_that_is_read_much_keeps_what_it_has(rows: int) -> None:
    """Slots of any size, so that none but the first begins with a page."""
    memory = CacheMemory((3, rows, 100), np.int8)
    memory.array[:] = np.arange(3)[:, None, None]
    for slot in (2, 0, 1):
        memory.expect_reading(slot)
    assert [set(np.unique(each)) for each in memory.array] == [{0}, {1}, {2}]


@huge_pages
def test_a_session_asks_for_huge_pages_once_a_slot_is_a_quarter_full(
    bundles: Path,
) -> None:
    bundle = load_bundle(bundles / "talk-int4")
    [decode] = [graph for graph in bundle.manifest.graphs if graph.spec.name == "decode_b1"]
    quarter = bundle.manifest.cache_len // 4
    with closing(open_session(bundle)) as session:
        assert isinstance(session, CpuSession)
        told = []
        for start in (quarter - 1, quarter):
            session.run(decode, [Chunk(slot=0, start=start, token_ids=[7])])
            told.append({advice(rows[0]) for rows in (*session.keys, *session.values)})
    assert told == [{"nh"}, {"hg"}]


def test_more_than_the_system_gives_is_too_little_memory() -> None:
    with pytest.raises(MemoryError, match="1,125,899,906,842,624 bytes of a KV cache"):
        CacheMemory((1 << 50,), np.int8)
