"""Files that the system keeps, and maps, in pages of 2 MiB: products read their weights faster.

Linux caches a file in pieces as large as it was first read or written in, up to 2 MiB, where the
file system can (ext4 since 6.16, XFS, Btrfs, tmpfs mounted with `huge=`). A mapping of such a piece
is one page. The pieces are those of the file cache: all processes share them, and they are nobody's
anonymous memory.
"""

import hashlib
import mmap
from collections.abc import Iterator
from errno import EINVAL
from pathlib import Path

__all__ = [
    "HUGE_PAGE",
    "MADV_POPULATE_READ",
    "WINDOW",
    "advise",
    "read_ahead",
    "sha256_of",
    "whole_pages",
]

HUGE_PAGE = 1 << 21
MADV_POPULATE_READ = 22  # of Linux; reads a mapping at once, and says so where that fails
WINDOW = 16 * HUGE_PAGE  # mapped at a time


def sha256_of(file: Path) -> str:
    """The file's hash in hexadecimal; what was not cached is, from then on, in huge pages.

    A mapping with that advice reads ahead in huge pages; read() does not, however much it asks for.

    Raises:
        OSError: the file cannot be read. A mapping that is only touched would end the process.
    """
    digest = hashlib.sha256()
    for window in _windows(file):
        digest.update(window)
    return digest.hexdigest()


def read_ahead(file: Path) -> None:
    """What was not cached is, from then on, in huge pages.

    Raises:
        OSError: the file cannot be read.
    """
    for _ in _windows(file):
        pass


def _windows(file: Path) -> Iterator[mmap.mmap]:
    """The parts of a file, each mapped and read until the next is asked for."""
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        for start in range(0, size, WINDOW):
            length = min(WINDOW, size - start)
            with mmap.mmap(stream.fileno(), length, prot=mmap.PROT_READ, offset=start) as window:
                for advice in (mmap.MADV_HUGEPAGE, MADV_POPULATE_READ):
                    advise(window, advice)
                yield window


def advise(window: mmap.mmap, advice: int) -> None:
    """Tells the system how a mapping is used, where it knows this advice."""
    try:
        window.madvise(advice)
    except OSError as error:
        if error.errno != EINVAL:  # that of a kernel without huge pages, or before Linux 5.14
            raise


def whole_pages(buffer: bytes | memoryview, at: int) -> Iterator[memoryview]:
    """Parts of bytes that go to a place in a file; none crosses from one huge page into the next.

    So a stream with a buffer of HUGE_PAGE bytes writes page by page, however long the chunks are.
    """
    view = memoryview(buffer)
    while view:
        length = HUGE_PAGE - at % HUGE_PAGE
        yield view[:length]
        view = view[length:]
        at += length
