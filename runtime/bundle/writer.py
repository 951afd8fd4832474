"""Writes bundles: in a hidden sibling, renamed when complete.

Weights come as jobs that yield chunks, so that a tensor is read once, hashed and written on its
way, and never whole in memory; jobs run on all cores.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime.bundle.manifest import FileEntry, Manifest
from runtime.bundle.reader import (
    GRAPHS_DIR,
    MANIFEST,
    MANIFEST_DIGEST,
    WEIGHTS_DIR,
    Bundle,
    digest_line,
)
from runtime.errors import UserError
from runtime.progress import SILENT, Progress
from runtime.threads import usable_threads

__all__ = ["Buffer", "BundleWriter", "WeightJob", "partial_directory"]

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightJob:
    """Tensors that are made together from one reading of their source.

    names: of the tensors.
    chunks: yields a chunk of each tensor, in order, again and again until all are complete.
    """

    names: tuple[str, ...]
    chunks: Callable[[], Iterator[tuple[Buffer, ...]]]


def partial_directory(path: Path) -> Path:
    """Where a bundle lies until it is complete: a hidden sibling."""
    return path.parent / f".{path.name}.partial"


@dataclass(slots=True)
class BundleWriter:
    """Writes a bundle so that it appears complete or not at all.

    Use as a context manager; without `finish` nothing remains. An existing bundle at `path` is
    replaced; any other directory that holds something is refused.

    Raises:
        UserError: `path` cannot be written or holds something that is not a bundle.
    """

    path: Path
    progress: Progress = SILENT
    directory: Path = field(init=False)
    _files: dict[str, FileEntry] = field(init=False, default_factory=dict)
    _replaced: Path = field(init=False)
    _lock: int = field(init=False, default=-1)
    _finished: bool = field(init=False, default=False)
    _pool: ThreadPoolExecutor = field(init=False)
    _pending: list[Future[None]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Refuses a destination before any work is done."""
        self.path = self.path.resolve()
        self.directory = partial_directory(self.path)
        self._replaced = self.path.parent / f".{self.path.name}.replaced"
        # Both names, since a manifest.json lies in many a directory that is no bundle.
        is_bundle = all((self.path / name).is_file() for name in (MANIFEST, MANIFEST_DIGEST))
        if self.path.is_mount():
            raise UserError(
                f"{self.path} is a mount point and cannot be renamed to",
                next_step=f"give a directory in it, such as {self.path / 'bundle'}",
            )
        occupied = self.path.exists() and not is_bundle
        if occupied and not (self.path.is_dir() and not any(self.path.iterdir())):
            raise UserError(
                f"{self.path} exists and is not a bundle",
                next_step="give another output directory or remove it yourself",
            )

    def __enter__(self) -> Self:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.directory, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lock = lock
            self._clear_leftovers()
            (self.directory / GRAPHS_DIR / WEIGHTS_DIR).mkdir(parents=True)
            self._pool = ThreadPoolExecutor(max_workers=usable_threads())
        except BlockingIOError as error:
            raise UserError(
                f"another run is writing {self.path}", next_step="wait for it", code="busy"
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot write to {self.path.parent}", got=error.strerror, next_step="choose -o"
            ) from error
        except BaseException:  # a signal; `with` exits only what it has entered
            if self._lock >= 0:
                self._tidy()
            else:
                with suppress(OSError):  # another run's, which is not empty
                    self.directory.rmdir()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._tidy()
        os.close(self._lock)

    def _tidy(self) -> None:
        """Leaves nothing but the output: the new bundle, or what was there before."""
        if not self._finished:  # else the place may be the next run's already
            shutil.rmtree(self.directory, ignore_errors=True)
        self._settle_replaced()

    def _settle_replaced(self) -> None:
        """Puts back the bundle that was being replaced unless another took its place."""
        if self._replaced.exists() and not self.path.exists():
            self._replaced.rename(self.path)
        shutil.rmtree(self._replaced, ignore_errors=True)

    def _clear_leftovers(self) -> None:
        """Removes what a killed run left, and puts back the bundle it was replacing."""
        for left in self.directory.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self._settle_replaced()

    @property
    def files(self) -> dict[str, FileEntry]:
        """What has been written, in an order that does not depend on which core was faster."""
        return dict(sorted(self._files.items()))

    def require(self, num_bytes: int) -> None:
        """Refuses a disk that has no room for so many bytes.

        Raises:
            UserError: too little is free.
        """
        free = shutil.disk_usage(self.directory).free
        if free < num_bytes:
            raise UserError(
                f"the disk of {self.path.parent} is too full",
                got=f"{free / 1e9:.1f} GB free",
                allowed=f"{num_bytes / 1e9:.1f} GB or more",
                next_step="free some or choose another -o",
            )

    def write(self, relative: str, chunks: Iterable[Buffer]) -> FileEntry:
        """Writes one file, hashing the bytes on their way; raises what a weight job has raised."""
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
        self._files |= dict(zip(relatives, entries, strict=True))

    def _entry(self, relative: str) -> FileEntry:
        with (self.directory / relative).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return FileEntry(size=stream.tell(), sha256=digest)

    def _run(self, job: WeightJob) -> None:
        relatives = [f"{GRAPHS_DIR}/{WEIGHTS_DIR}/{name}" for name in job.names]
        self._write_together(relatives, self._counted(job))

    def _counted(self, job: WeightJob) -> Iterator[tuple[Buffer, ...]]:
        for buffers in job.chunks():
            yield buffers
            self.progress.advance(sum(map(len, buffers)))

    def _write_together(
        self, relatives: Sequence[str], chunks: Iterable[tuple[Buffer, ...]]
    ) -> list[FileEntry]:
        digests = [hashlib.sha256() for _ in relatives]
        sizes = [0] * len(relatives)
        with ExitStack() as stack:
            streams = [
                stack.enter_context((self.directory / relative).open("wb"))
                for relative in relatives
            ]
            for buffers in chunks:
                for i, buffer in enumerate(buffers):
                    digests[i].update(buffer)
                    sizes[i] += streams[i].write(buffer)
        entries = [
            FileEntry(size=size, sha256=digest.hexdigest())
            for size, digest in zip(sizes, digests, strict=True)
        ]
        self._files |= dict(zip(relatives, entries, strict=True))
        return entries

    def finish(self, manifest: Manifest) -> Bundle:
        """Writes the manifest and puts the bundle in its place."""
        data = (manifest.model_dump_json(indent=2) + "\n").encode()
        (self.directory / MANIFEST).write_bytes(data)
        (self.directory / MANIFEST_DIGEST).write_bytes(digest_line(data))
        if self.path.exists():
            self.path.rename(self._replaced)
        self.directory.rename(self.path)
        self._finished = True
        self._settle_replaced()
        return Bundle(path=self.path, manifest=manifest)
