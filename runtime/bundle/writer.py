"""Writes bundles: hashed files and their manifest, in an atomic directory."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from runtime.bundle.atomic_directory import AtomicDirectory
from runtime.bundle.hashing_writer import HashingWriter
from runtime.bundle.manifest import Manifest
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

__all__ = ["BundleWriter"]


class BundleWriter:
    """Writes a bundle. Use as a context manager; without `finish` nothing remains.

    An existing bundle at `path` is replaced; any other directory that holds something is refused.

    Attributes:
        place: where the bundle is written, and where it will be.
        files: writes its files.
        progress: told of the bytes of weights.

    Raises:
        UserError: `path` cannot be written or holds something that is not a bundle.
    """

    files: HashingWriter

    def __init__(self, path: Path, progress: Progress = SILENT) -> None:
        self.place = AtomicDirectory(path)
        self.progress = progress
        self._entered = ExitStack()
        _check_replaceable(self.place.path)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            directory = stack.enter_context(self.place).directory
            self.files = stack.enter_context(HashingWriter(directory, self.progress))
            self._entered = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.close()

    def finish(self, manifest: Manifest) -> Bundle:
        """Writes the manifest and puts the bundle in its place."""
        weights = self.place.directory / GRAPHS_DIR / WEIGHTS_DIR
        if not any(weights.iterdir()):  # beside OMs they lie where ATC puts them
            weights.rmdir()
        data = (manifest.model_dump_json(indent=2) + "\n").encode()
        (self.place.directory / MANIFEST).write_bytes(data)
        (self.place.directory / MANIFEST_DIGEST).write_bytes(digest_line(data))
        self.place.put()
        return Bundle(path=self.place.path, manifest=manifest)


def _check_replaceable(path: Path) -> None:
    """Refuses a destination before any work is done."""
    # Both names, since a manifest.json lies in many a directory that is no bundle.
    is_bundle = all((path / name).is_file() for name in (MANIFEST, MANIFEST_DIGEST))
    occupied = path.exists() and not is_bundle
    if occupied and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(
            f"{path} exists and is not a bundle",
            next_step="give another output directory or remove it yourself",
        )
