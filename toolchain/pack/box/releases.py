"""The releases below a prefix: a directory for each pack, and links to the one in use.

`releases/NAME` has the files of a pack and `env`, and is complete where it has a SHA256SUMS. The
link `current` leads to one of them, and alone is turned; `bin`, `bundle` and `operate` go through
it.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from toolchain.pack.box.archive import (
    BUNDLE_DIR,
    OPERATE_DIR,
    SUMS,
    Pack,
    check_files,
    parse_sums,
    sums_text,
)
from toolchain.pack.box.environment import make_environment
from toolchain.pack.box.errors import BoxError

__all__ = ["install"]

RELEASES, CURRENT = "releases", "current"
LINKS = {"bin": "env/bin", "bundle": BUNDLE_DIR, "operate": OPERATE_DIR}


def install(stream: IO[bytes], pack: Pack, prefix: Path) -> Path:
    """Makes the release of a pack, complete or not at all, and puts it into use.

    Raises:
        BoxError: the prefix holds other things or lacks what the pack builds on, or the environment
            cannot be made.
    """
    release = prefix / RELEASES / pack.name
    there = {} if (release / SUMS).exists() else _find_absent(pack, prefix)
    with _held(prefix):
        if not (release / SUMS).exists():
            try:
                _make(stream, pack, release, there)
            except BaseException:
                shutil.rmtree(release, ignore_errors=True)
                raise
        for name, inside in LINKS.items():
            _point(prefix / name, f"{CURRENT}/{inside}")
        _point(prefix / CURRENT, f"{RELEASES}/{pack.name}")
    return release


@contextmanager
def _held(prefix: Path) -> Iterator[None]:
    """Makes the prefix, which one install at a time may use, and clears what a killed one left."""
    for name in (CURRENT, *LINKS):
        if os.path.lexists(prefix / name) and not (prefix / name).is_symlink():
            raise BoxError(
                f"{prefix / name} is not of an earlier pack",
                next_step=f"move {prefix} away, or choose another --prefix",
            )
    (prefix / RELEASES).mkdir(parents=True, exist_ok=True)
    opened = os.open(prefix, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for release in (prefix / RELEASES).iterdir():
            if not (release / SUMS).exists():
                shutil.rmtree(release)
        yield
    except BlockingIOError as error:
        raise BoxError(f"another install is under way in {prefix}", next_step="wait") from error
    finally:
        os.close(opened)


def _find_absent(pack: Pack, prefix: Path) -> dict[str, Path]:
    """The files that the pack does not carry, in earlier releases; each is hashed.

    Raises:
        BoxError: one is not there, or altered.
    """
    lists = sorted(prefix.glob(f"{RELEASES}/*/{SUMS}"))
    places = {
        digest: file.parent / name
        for file in lists
        for name, digest in parse_sums(file.read_bytes()).items()
    }
    found = {}
    for name in pack.info["absent"]:
        place = places.get(pack.sums[name])
        if place is None or not place.is_file() or _sha256(place) != pack.sums[name]:
            raise BoxError(
                f"the pack builds on pack {pack.info['since']}",
                got=f"no {name} below {prefix}" if place is None else f"another {place}",
                next_step="install that one first, or make this one without --since",
            )
        found[name] = place
    return found


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _make(stream: IO[bytes], pack: Pack, release: Path, there: dict[str, Path]) -> None:
    check_files(stream, pack, release)
    for name, place in there.items():
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).hardlink_to(place)
    make_environment(release, pack.info["wheel"], pack.info["extras"])
    complete = release / f".{SUMS}"
    complete.write_bytes(sums_text(pack.sums))
    os.sync()
    complete.rename(release / SUMS)


def _point(link: Path, target: str) -> None:
    """Makes a link, or turns it from its old target to the new one at once."""
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
