"""Which bundles lie in a directory, by their manifests alone: no file is hashed."""

import os
from pathlib import Path

from runtime.bundle.reader import MANIFEST, MANIFEST_DIGEST, Bundle, read_manifest
from runtime.errors import BundleError, UserError
from toolchain.console import human_bytes

__all__ = ["find_bundles", "summary"]


def find_bundles(directory: Path) -> tuple[list[Bundle], list[BundleError]]:
    """Every bundle below a directory, and why others cannot be read.

    Raises:
        UserError: no such directory.
    """
    if not directory.is_dir():
        raise UserError(f"no directory {directory}", next_step="give one that holds bundles")
    found: list[Bundle] = []
    unreadable: list[BundleError] = []
    for root, folders, files in os.walk(directory):
        if {MANIFEST, MANIFEST_DIGEST} <= set(files):
            folders.clear()  # a bundle holds no others
            try:
                found.append(Bundle(path=Path(root), manifest=read_manifest(Path(root))))
            except BundleError as error:
                unreadable.append(error)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    return found, unreadable


def summary(bundle: Bundle, directory: Path) -> dict[str, str]:
    """What tells a bundle from others."""
    manifest = bundle.manifest
    return {
        "bundle": bundle.path.relative_to(directory).as_posix(),
        "stage": manifest.stage,
        "target": manifest.target,
        "weights": manifest.weights,
        "cache": manifest.cache_dtype,
        "context": str(manifest.cache_len),
        "slots": str(manifest.num_slots),
        "size": human_bytes(sum(entry.size for entry in manifest.files.values())),
        "made from": manifest.provenance.source_files.get("config.json", "")[:12],
    }
