"""Reads and writes bundles: a directory with a manifest that names and hashes every file.

The reader refuses whatever the manifest does not account for, so a bundle that loads is the
bundle that was written. The writer works in a hidden sibling and renames it when complete.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from runtime.errors import BundleError, UserError
from runtime.manifest import FORMAT_VERSION, FileEntry, Graph, Manifest, first_problem

__all__ = [
    "GENERATION_CONFIG",
    "GRAPHS_DIR",
    "TOKENIZER",
    "WEIGHTS_DIR",
    "Bundle",
    "BundleWriter",
    "load_bundle",
]

MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"  # in the format of sha256sum, so `sha256sum -c` checks it
TOKENIZER = "tokenizer.model"
GENERATION_CONFIG = "generation_config.json"
GRAPHS_DIR = "graphs"
# Below graphs/, because an ONNX file may not refer to external data above its own directory.
WEIGHTS_DIR = "weights"

MAKE_AGAIN = "make the bundle again with `toolchain export` and `toolchain compile`"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A directory whose files are the ones that its manifest describes."""

    path: Path
    manifest: Manifest

    def file(self, relative: str) -> Path:
        """Absolute path of a file of the bundle."""
        return self.path / relative

    def graph_bytes(self, graph: Graph) -> bytes:
        """The serialised graph, without its external weights."""
        return self.file(graph.path).read_bytes()


def load_bundle(path: Path) -> Bundle:
    """Opens a bundle after checking every byte of it.

    Raises:
        BundleError: not a bundle, another format version, or a file that is missing, truncated,
            altered, stray, a link or outside the bundle.
    """
    if not path.is_dir():
        raise BundleError(f"no bundle at {path}", next_step="give the directory of a bundle")
    manifest = _parse_manifest(path, _manifest_bytes(path))
    _check_tree(path, manifest)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(lambda item: _check_file(path, *item), manifest.files.items()))
    return Bundle(path=path, manifest=manifest)


def _manifest_bytes(path: Path) -> bytes:
    for name in (MANIFEST, MANIFEST_DIGEST):
        file = path / name
        if file.is_symlink() or not file.is_file():
            raise BundleError(
                f"{path} is not a bundle",
                got=f"no regular file {name}",
                next_step="give the directory that `toolchain export` or `compile` wrote",
            )
    data = (path / MANIFEST).read_bytes()
    if (path / MANIFEST_DIGEST).read_bytes() != _digest_line(data):
        raise BundleError(f"{path / MANIFEST} was altered", next_step=MAKE_AGAIN)
    return data


def _digest_line(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _parse_manifest(path: Path, data: bytes) -> Manifest:
    try:
        version = json.loads(data)["format_version"]
        if version != FORMAT_VERSION:
            raise BundleError(
                f"{path} has another format version",
                got=version,
                allowed=str(FORMAT_VERSION),
                next_step=f"{MAKE_AGAIN} of this version",
            )
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise BundleError(
            f"{path / MANIFEST}: {first_problem(error)}", next_step=MAKE_AGAIN
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise BundleError(f"{path / MANIFEST}: {first}", next_step=MAKE_AGAIN) from error


def _check_tree(path: Path, manifest: Manifest) -> None:
    """Every file listed stays inside, graphs are listed, so is all on disk, and none is a link."""
    for relative in manifest.files:
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts or relative != str(pure):
            raise BundleError(f"{path / MANIFEST} leaves the bundle", got=relative)
    for graph in manifest.graphs:
        if graph.path not in manifest.files:
            raise BundleError(f"{path / MANIFEST} lists no such graph file", got=graph.path)
    folders = {GRAPHS_DIR, f"{GRAPHS_DIR}/{WEIGHTS_DIR}"}
    known = {MANIFEST, MANIFEST_DIGEST, *folders, *manifest.files}
    for root, directories, files in os.walk(path):
        for name in directories + files:
            entry = Path(root) / name
            relative = entry.relative_to(path).as_posix()
            if entry.is_symlink():
                raise BundleError(f"{relative} in {path} is a link", next_step=MAKE_AGAIN)
            if relative not in known:
                raise BundleError(f"stray {relative} in {path}", next_step="remove it")


def _check_file(path: Path, relative: str, entry: FileEntry) -> None:
    file = path / relative
    if not file.is_file():
        raise BundleError(f"{relative} is missing from {path}", next_step=MAKE_AGAIN)
    size = file.stat().st_size
    if size != entry.size:
        raise BundleError(
            f"{relative} in {path} has another size",
            got=f"{size} bytes",
            allowed=f"{entry.size} bytes",
            next_step=MAKE_AGAIN,
        )
    with file.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != entry.sha256:
            raise BundleError(f"{relative} in {path} was altered", next_step=MAKE_AGAIN)


@dataclass(slots=True)
class BundleWriter:
    """Writes a bundle so that it appears complete or not at all.

    Use as a context manager; without `finish` nothing remains. An existing bundle at `path` is
    replaced; any other directory that holds something is refused.

    Raises:
        UserError: `path` cannot be written or holds something that is not a bundle.
    """

    path: Path
    directory: Path = field(init=False)
    files: dict[str, FileEntry] = field(init=False, default_factory=dict)
    _replaced: Path = field(init=False)
    _by_digest: dict[str, str] = field(init=False, default_factory=dict)
    _lock: int = field(init=False, default=-1)

    def __post_init__(self) -> None:
        """Refuses a destination before any work is done."""
        self.path = self.path.resolve()
        self.directory = self.path.parent / f".{self.path.name}.partial"
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
            self._lock = os.open(self.directory, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._clear_leftovers()
            (self.directory / GRAPHS_DIR / WEIGHTS_DIR).mkdir(parents=True)
        except BlockingIOError as error:
            raise UserError(
                f"another run is writing {self.path}", next_step="wait for it"
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot write to {self.path.parent}", got=error.strerror, next_step="choose -o"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)

    def _clear_leftovers(self) -> None:
        """Removes what an interrupted run left, and puts back the bundle it was replacing."""
        for left in self.directory.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if self._replaced.exists() and not self.path.exists():
            self._replaced.rename(self.path)
        shutil.rmtree(self._replaced, ignore_errors=True)

    def write(self, relative: str, chunks: Iterable[bytes | memoryview]) -> FileEntry:
        """Writes one file, hashing the bytes on their way."""
        file = self.directory / relative
        digest, size = hashlib.sha256(), 0
        with file.open("wb") as stream:
            for chunk in chunks:
                digest.update(chunk)
                size += stream.write(chunk)
        entry = FileEntry(size=size, sha256=digest.hexdigest())
        self.files[relative] = entry
        return entry

    def write_weight(self, name: str, chunks: Iterable[bytes | memoryview]) -> str:
        """Stores a tensor once, whatever it is called.

        Returns:
            Where graphs find it: the path relative to the graphs directory.
        """
        location = f"{WEIGHTS_DIR}/{name}"
        relative = f"{GRAPHS_DIR}/{location}"
        entry = self.write(relative, chunks)
        first = self._by_digest.setdefault(entry.sha256, location)
        if first != location:
            del self.files[relative]
            (self.directory / relative).unlink()
        return first

    def finish(self, manifest: Manifest) -> Bundle:
        """Writes the manifest and puts the bundle in its place."""
        data = (manifest.model_dump_json(indent=2) + "\n").encode()
        (self.directory / MANIFEST).write_bytes(data)
        (self.directory / MANIFEST_DIGEST).write_bytes(_digest_line(data))
        if self.path.exists():
            self.path.rename(self._replaced)
        self.directory.rename(self.path)
        shutil.rmtree(self._replaced, ignore_errors=True)
        return Bundle(path=self.path, manifest=manifest)
