"""The copy of a bundle that lies on this machine, at the path that it has on another."""

from pathlib import Path

from runtime.bundle.reader import Bundle, load_bundle, read_manifest
from runtime.errors import BundleError

__all__ = ["load_same_bundle"]


def load_same_bundle(path: Path, digest: str) -> Bundle:
    """Opens it after checking every byte of it.

    Args:
        path: where it lies on each machine.
        digest: of the bundle that is meant.

    Raises:
        BundleError: it is missing or another one, or see load_bundle.
    """
    copy_it = "copy the bundle to every node, to the same path"
    if not path.is_dir():
        raise BundleError(f"no bundle at {path}", next_step=copy_it)
    found = Bundle(path=path, manifest=read_manifest(path)).digest
    if found != digest:
        raise BundleError(f"another bundle at {path}", got=found, allowed=digest, next_step=copy_it)
    return load_bundle(path)
