"""A pack with other files, each under its right hash."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from runtime.progress import SILENT
from toolchain.pack.box.archive import read_pack
from toolchain.pack.writer import Member, write_pack


def other_pack(pack: Path, output: Path, changes: Mapping[str, bytes | None]) -> Path:
    """Writes a pack with some files changed, or left out where the change is None."""
    with pack.open("rb") as stream:
        names = list(read_pack(stream).sums)
    directory = output.with_suffix(".files")
    directory.mkdir()
    subprocess.run(["tar", "-xf", pack, "-C", directory], check=True)
    old: dict[str, bytes | None] = {name: (directory / name).read_bytes() for name in names}
    new = old | dict(changes)
    members = [Member.of(name, data) for name, data in new.items() if data is not None]
    with output.open("wb") as file:
        write_pack(file, members, SILENT)
    return output
