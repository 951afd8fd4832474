"""Writes the files of a bundle, hashing them on their way.

Weights come as jobs that yield chunks, so that a tensor is read once, hashed and written on its
way, and never whole in memory; jobs run on all cores.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from runtime.bundle.huge_pages import HUGE_PAGE, sha256_of, whole_pages
from runtime.bundle.manifest import FileEntry
from runtime.bundle.reader import GRAPHS_DIR, WEIGHTS_DIR
from runtime.progress import SILENT, Progress
from runtime.threads import usable_threads

__all__ = ["Buffer", "HashingWriter", "WeightJob"]

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightJob:
    """Tensors that are made together from one reading of their source.

    names: of the tensors.
    chunks: yields a chunk of each tensor, in order, again and again until all are complete.
    """

    names: tuple[str, ...]
    chunks: Callable[[], Iterator[tuple[Buffer, ...]]]


class HashingWriter:
    """Writes files below a directory. Use as a context manager; what is pending then ends."""

    def __init__(self, directory: Path, progress: Progress = SILENT) -> None:
        self.directory = directory
        self._progress = progress
        self._entries: dict[str, FileEntry] = {}
        self._pool = ThreadPoolExecutor(max_workers=usable_threads())
        self._pending: list[Future[None]] = []

    def __enter__(self) -> Self:
        (self.directory / GRAPHS_DIR / WEIGHTS_DIR).mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def entries(self) -> dict[str, FileEntry]:
        """What has been written, in an order that does not depend on which core was faster."""
        return dict(sorted(self._entries.items()))

    def write(self, relative: str, chunks: Iterable[Buffer]) -> FileEntry:
        """Writes one file; raises what a weight job has raised."""
        for future in self._pending:
            if future.done():
                future.result()
        [entry] = self._write_together([relative], ((chunk,) for chunk in chunks))
        return entry

    def start_weights(self, jobs: Sequence[WeightJob]) -> None:
        """Starts to write tensors to graphs/weights/{name} on all cores, in the background."""
        self._pending += [self._pool.submit(self._run, job) for job in jobs]

    def wait(self) -> None:
        """Waits until every weight that was started is written; raises what its job raised."""
        for future in self._pending:
            future.result()

    def adopt(self, relatives: Sequence[str]) -> None:
        """Takes files that another program wrote below `directory`, hashing them on all cores."""
        entries = self._pool.map(self._entry, relatives)
        self._entries |= dict(zip(relatives, entries, strict=True))

    def _entry(self, relative: str) -> FileEntry:
        file = self.directory / relative
        return FileEntry(size=file.stat().st_size, sha256=sha256_of(file))

    def _run(self, job: WeightJob) -> None:
        relatives = [f"{GRAPHS_DIR}/{WEIGHTS_DIR}/{name}" for name in job.names]
        self._write_together(relatives, self._counted(job))

    def _counted(self, job: WeightJob) -> Iterator[tuple[Buffer, ...]]:
        for buffers in job.chunks():
            yield buffers
            self._progress.advance(sum(map(len, buffers)))

    def _write_together(
        self, relatives: Sequence[str], chunks: Iterable[tuple[Buffer, ...]]
    ) -> list[FileEntry]:
        digests = [hashlib.sha256() for _ in relatives]
        sizes = [0] * len(relatives)
        with ExitStack() as stack:
            streams = [
                stack.enter_context((self.directory / relative).open("wb", HUGE_PAGE))
                for relative in relatives
            ]
            for buffers in chunks:
                for i, buffer in enumerate(buffers):
                    digests[i].update(buffer)
                    for part in whole_pages(buffer, sizes[i]):
                        sizes[i] += streams[i].write(part)
        entries = [
            FileEntry(size=size, sha256=digest.hexdigest())
            for size, digest in zip(sizes, digests, strict=True)
        ]
        self._entries |= dict(zip(relatives, entries, strict=True))
        return entries
