"""Writes a pack: the files in the order of their list, nothing that depends on when or by whom."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runtime.progress import Progress
from toolchain.pack.box.archive import END, SIGNATURE, SUMS, header, padding, sums_text
from toolchain.pack.signature import Sign

__all__ = ["Member", "write_pack"]

CHUNK = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of a pack: its name there, where its bytes are, and their hash.

    carried: whether its bytes go into the tar; the box has them otherwise.
    """

    name: str
    source: Path | bytes
    sha256: str
    carried: bool = True

    @classmethod
    def of(cls, name: str, source: Path | bytes) -> "Member":
        """A file whose hash is not known yet."""
        digest = hashlib.sha256()
        for chunk in _chunks(source):
            digest.update(chunk)
        return cls(name=name, source=source, sha256=digest.hexdigest())

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


def write_pack(
    stream: IO[bytes], members: Sequence[Member], progress: Progress, sign: Sign | None = None
) -> None:
    """Writes the list of files, its signature where it is signed, the files, the end of the tar."""
    sums = sums_text({member.name: member.sha256 for member in members})
    first = [Member.of(SUMS, sums)]
    if sign is not None:
        first.append(Member.of(SIGNATURE, sign(sums)))
    carried = [member for member in members if member.carried]
    progress.expect(sum(member.size for member in carried))
    for member in (*first, *carried):
        stream.write(header(member.name, member.size))
        for chunk in _chunks(member.source):
            stream.write(chunk)
            progress.advance(len(chunk))
        stream.write(padding(member.size))
    stream.write(END)


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
