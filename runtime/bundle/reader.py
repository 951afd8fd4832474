"""Reads bundles: a directory with a manifest that names and hashes every file.

The reader refuses whatever the manifest does not account for, so a bundle that loads is the
bundle that was written.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from runtime.bundle.checked_files import CheckedFiles
from runtime.bundle.consistency import contradiction
from runtime.bundle.huge_pages import read_ahead, sha256_of
from runtime.bundle.manifest import FORMAT_VERSION, FileEntry, Manifest
from runtime.errors import BundleError
from runtime.json_file import parse_json, read_file
from runtime.progress import SILENT, Progress
from runtime.record import first_problem
from runtime.threads import usable_threads

__all__ = [
    "ADDED_TOKENS",
    "CHAT_TEMPLATE",
    "GENERATION_CONFIG",
    "GRAPHS_DIR",
    "MANIFEST",
    "MANIFEST_DIGEST",
    "TEXT_FILES",
    "TOKENIZER",
    "TOKENIZER_JSON",
    "WEIGHTS_DIR",
    "Bundle",
    "digest_line",
    "load_bundle",
    "read_manifest",
]

MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"  # in the format of sha256sum, so `sha256sum -c` checks it
TOKENIZER = "tokenizer.model"
TOKENIZER_JSON = "tokenizer.json"  # where there is no tokenizer.model
ADDED_TOKENS = "added_tokens.json"  # only where there are any
CHAT_TEMPLATE = "chat_template.jinja"  # where the prompts are not Alpaca-2's
# What says how texts become ids and back.
TEXT_FILES = (TOKENIZER, TOKENIZER_JSON, ADDED_TOKENS, CHAT_TEMPLATE)
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

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, and by that of every file."""
        return self.file(MANIFEST_DIGEST).read_text(encoding="ascii").split()[0]

    def file(self, relative: str) -> Path:
        """Absolute path of a file of the bundle."""
        return self.path / relative

    @property
    def text_files(self) -> tuple[str, ...]:
        """What the runtime needs besides the graphs, and every bundle of the same model has."""
        names = (*TEXT_FILES, GENERATION_CONFIG)
        return tuple(name for name in names if name in self.manifest.files)


def load_bundle(
    path: Path, progress: Progress = SILENT, *, trust_unchanged: bool = False
) -> Bundle:
    """Opens a bundle after checking every byte of it; progress counts the bytes checked.

    Args:
        path: of the bundle.
        progress: told the bytes.
        trust_unchanged: leaves out the hashes of files that were checked before and that the file
            system has not seen change since; see CheckedFiles.

    Raises:
        BundleError: not a bundle, another format version, or a file that is missing, truncated,
            altered, stray, a link or outside the bundle.
    """
    manifest = read_manifest(path)
    _check_tree(path, manifest)
    problem = contradiction(manifest)
    if problem is not None:
        raise BundleError(f"{path / MANIFEST} contradicts itself: {problem}", next_step=MAKE_AGAIN)
    progress.step(f"checking {path}")
    progress.expect(sum(entry.size for entry in manifest.files.values()))

    bundle = Bundle(path=path, manifest=manifest)
    checked = CheckedFiles(path, bundle.digest) if trust_unchanged else None

    def check(item: tuple[str, FileEntry]) -> None:
        _check_file(path, *item, checked)
        progress.advance(item[1].size)

    with ThreadPoolExecutor(max_workers=usable_threads()) as pool:
        list(pool.map(check, manifest.files.items()))
    if checked is not None:
        checked.save()
    return bundle


def read_manifest(path: Path) -> Manifest:
    """The manifest of a bundle; none of its other files is looked at.

    Raises:
        BundleError: not a bundle, another format version, or an altered manifest.
    """
    if not path.is_dir():
        raise BundleError(f"no bundle at {path}", next_step="give the directory of a bundle")
    return _parse_manifest(path, _manifest_bytes(path))


def _manifest_bytes(path: Path) -> bytes:
    for name in (MANIFEST, MANIFEST_DIGEST):
        file = path / name
        if file.is_symlink() or not file.is_file():
            raise BundleError(
                f"{path} is not a bundle",
                got=f"no regular file {name}",
                next_step="give the directory that `toolchain export` or `compile` wrote",
            )
    data = read_file(path / MANIFEST, BundleError)
    if read_file(path / MANIFEST_DIGEST, BundleError) != digest_line(data):
        raise BundleError(f"{path / MANIFEST} was altered", next_step=MAKE_AGAIN)
    return data


def digest_line(manifest: bytes) -> bytes:
    """What manifest.sha256 holds, in the format of sha256sum."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _parse_manifest(path: Path, data: bytes) -> Manifest:
    try:
        version = parse_json(data, str(path / MANIFEST), BundleError)["format_version"]
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
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"{path / MANIFEST} has no format_version", next_step=MAKE_AGAIN
        ) from error


def _check_tree(path: Path, manifest: Manifest) -> None:
    """Every file listed stays inside, graphs are listed, so is all on disk, and none is a link."""
    for relative in manifest.files:
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts or relative != str(pure):
            raise BundleError(f"{path / MANIFEST} leaves the bundle", got=relative)
    for graph in manifest.every_graph:
        for relative in (graph.path, *graph.weights):
            if relative not in manifest.files:
                raise BundleError(f"{path / MANIFEST} lists no such graph file", got=relative)
    folders = {str(folder) for file in manifest.files for folder in PurePosixPath(file).parents}
    folders.add(GRAPHS_DIR)
    known = {MANIFEST, MANIFEST_DIGEST, *folders, *manifest.files}
    for root, directories, files in os.walk(path):
        for name in directories + files:
            entry = Path(root) / name
            relative = entry.relative_to(path).as_posix()
            if entry.is_symlink():
                raise BundleError(f"{relative} in {path} is a link", next_step=MAKE_AGAIN)
            if relative not in known:
                raise BundleError(f"stray {relative} in {path}", next_step="remove it")


def _check_file(path: Path, relative: str, entry: FileEntry, checked: CheckedFiles | None) -> None:
    file = path / relative
    if not file.is_file():
        raise BundleError(f"{relative} is missing from {path}", next_step=MAKE_AGAIN)
    status = file.stat()
    if status.st_size != entry.size:
        raise BundleError(
            f"{relative} in {path} has another size",
            got=f"{status.st_size} bytes",
            allowed=f"{entry.size} bytes",
            next_step=MAKE_AGAIN,
        )
    if checked is not None and checked.unchanged(relative, file):
        read_ahead(file)
        return
    if sha256_of(file) != entry.sha256:
        raise BundleError(f"{relative} in {path} was altered", next_step=MAKE_AGAIN)
    if checked is not None:
        checked.add(relative, status, file)
