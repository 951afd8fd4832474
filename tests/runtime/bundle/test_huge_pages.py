import hashlib
import mmap
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.bundle.huge_pages import (
    HUGE_PAGE,
    MADV_POPULATE_READ,
    WINDOW,
    advise,
    sha256_of,
    whole_pages,
)


@pytest.mark.parametrize("size", [0, 1, 4096, WINDOW - 1, WINDOW, WINDOW + 1])
def test_the_hash_is_that_of_all_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    file = tmp_path / "file"
    file.write_bytes(data[:size])
    assert sha256_of(file) == hashlib.sha256(data[:size]).hexdigest()


@given(sizes=st.lists(st.integers(0, 3 * HUGE_PAGE), max_size=4))
def test_no_part_crosses_a_page(sizes: list[int]) -> None:
    """And all of them together are the chunks, in their order."""
    chunks, at = [bytes([i + 1]) * size for i, size in enumerate(sizes)], 0
    parts: list[memoryview] = []
    for chunk in chunks:
        parts += whole_pages(chunk, at)
        at += len(chunk)
    assert b"".join(parts) == b"".join(chunks)
    ends = list(accumulate(map(len, parts)))
    for start, end in zip([0, *ends], ends, strict=False):
        assert start // HUGE_PAGE == (end - 1) // HUGE_PAGE
    assert all(map(len, parts))


def test_what_cannot_be_read_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """As on a bad disk: the file ends before the mapping does."""
    file = tmp_path / "file"
    file.write_bytes(bytes(HUGE_PAGE))
    with file.open("r+b") as stream:
        window = mmap.mmap(stream.fileno(), HUGE_PAGE, prot=mmap.PROT_READ)
        stream.truncate(0)
        with pytest.raises(OSError, match="Bad address"):
            advise(window, MADV_POPULATE_READ)
