"""Which weight files each OM takes, and how many of their bytes all of them share."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from toolchain.errors import TargetError

__all__ = ["shared_bytes", "weight_files"]

WEIGHT_DIR = "weight"  # that ATC makes beside the OM


def weight_files(printed: Path, om: Path) -> tuple[Path, ...]:
    """The weight files of an OM.

    Args:
        printed: the OM as JSON, which `atc --mode=1` has written.
        om: the OM itself, beside which they lie.

    Raises:
        TargetError: a file that is named is not there, or none is named.
    """
    document = json.loads(printed.read_text(encoding="utf-8", errors="replace"))
    names = sorted({Path(location).name for location in _locations(document)})
    files = tuple(om.parent / WEIGHT_DIR / name for name in names)
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise TargetError(
            f"{om.name} does not have its weights beside it",
            got=f"no file {missing[0]}" if missing else "no FileConstant in it",
            next_step="compile again; report it if it stays",
        )
    return files


def _locations(node: object) -> Iterator[str]:
    """The attribute `location` of every FileConstant, at whatever depth of the document."""
    if isinstance(node, Mapping):
        if node.get("type") == "FileConstant":
            for attribute in node.get("attr", []):
                if attribute.get("key") == "location":
                    yield str(attribute["value"]["s"])
        for child in node.values():
            yield from _locations(child)
    elif isinstance(node, list):
        for child in node:
            yield from _locations(child)


def shared_bytes(by_om: Mapping[str, tuple[Path, ...]]) -> tuple[int, int]:
    """Bytes of all weight files, each once, and of those that every OM takes."""
    sets = [set(files) for files in by_om.values()]
    everywhere = set.intersection(*sets)
    return _bytes(set.union(*sets)), _bytes(everywhere)


def _bytes(files: set[Path]) -> int:
    return sum(file.stat().st_size for file in files)
