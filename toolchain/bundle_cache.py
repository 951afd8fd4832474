"""Compiled bundles of this host's cache, one for each checkpoint and choice.

A bundle's name is a hash of what it is made from: the small files of the checkpoint by their
bytes, its weight files by name, size and time of change (hashing 14 GB would take longer than
answering), the profile, and the version of this package. A weight file that is changed without
changing its size or its time is therefore not noticed.
"""

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from export.config import load_config
from profiles import Profile
from runtime.bundle.reader import Bundle, load_bundle
from runtime.errors import BundleError, UserError
from runtime.progress import Progress
from toolchain.choices import check_profile
from toolchain.compiler import compile_bundle

__all__ = ["cached_bundle", "default_cache"]

SMALL_BYTES = 32e6  # of a file that is hashed whole: configurations and tokenizers


def default_cache() -> Path:
    """Where bundles are kept: $XDG_CACHE_HOME/alpaca2-toolchain/bundles, or below ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "alpaca2-toolchain" / "bundles"


def cached_bundle(
    model: Path, profile: Profile, cache: Path, progress: Progress, lora: Path | None = None
) -> Bundle:
    """The compiled bundle of a checkpoint, exported and compiled where it is not there yet.

    A bundle that is damaged is made again. `lora` is an adapter that is merged into it.

    Raises:
        UserError: the checkpoint cannot be exported or compiled, or the cache cannot be written.
    """
    sources = [model] if lora is None else [model, lora]
    for source, kind in zip(sources, ("a checkpoint", "an adapter"), strict=False):
        if not source.is_dir():
            raise UserError(f"no directory {source}", next_step=f"give the directory of {kind}")
    bundle = cache / f"{model.resolve().name}-{_key(sources, profile)}"
    try:
        return load_bundle(bundle, progress)
    except BundleError:
        pass  # not there yet, or damaged
    check_profile(load_config(model), profile)
    from export.exporter import export_bundle  # torch, which a bundle that is there does not need

    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache, prefix=".exported-") as directory:
        exported = export_bundle(model, profile, Path(directory) / "bundle", progress, lora=lora)
        return compile_bundle(exported, bundle, progress=progress)


def _key(sources: list[Path], profile: Profile) -> str:
    files = [line for source in sources for line in _files(source)]
    digest = hashlib.sha256()
    for part in (version("alpaca2-toolchain"), profile.model_dump_json(), *files):
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()[:16]


def _files(model: Path) -> list[str]:
    """One line for each file of a checkpoint."""
    lines = []
    for file in sorted(path for path in model.iterdir() if path.is_file()):
        status = file.stat()
        mark = f"{status.st_mtime_ns}"
        if status.st_size <= SMALL_BYTES:
            mark = hashlib.sha256(file.read_bytes()).hexdigest()
        lines.append(json.dumps([file.name, status.st_size, mark]))
    return lines
