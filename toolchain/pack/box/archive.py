"""The format of a pack, and its reader, which leaves no byte unchecked.

A pack is a tar whose first file, SHA256SUMS, has the hash of every other one, in their order; in a
signed pack its signature follows. Each header is the one that follows from a name and a size, and
what fills a block is zero. So a pack has no links, no files of other kinds, and no names but those
of its list.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from toolchain.pack.box.errors import BoxError

__all__ = [
    "BUNDLE_DIR",
    "END",
    "FORMAT_VERSION",
    "INFO",
    "INSTALLER",
    "OPERATE_DIR",
    "SIGNATURE",
    "SUMS",
    "WHEELS_DIR",
    "Pack",
    "check_files",
    "header",
    "padding",
    "parse_sums",
    "read_pack",
    "sums_text",
]

FORMAT_VERSION = 1
SUMS = "SHA256SUMS"  # as sha256sum writes it: `sha256sum -c` checks it where the tar is unpacked
SIGNATURE = "SHA256SUMS.sig"
INFO = "pack.json"
INSTALLER = "install.sh"
BUNDLE_DIR, OPERATE_DIR, WHEELS_DIR = "bundle", "operate", "wheels"
PLACES = {INFO, INSTALLER, BUNDLE_DIR, OPERATE_DIR, WHEELS_DIR}  # where a name may begin
LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)\n")
CHUNK = 1 << 20
SIGNATURE_SIZE = 64  # bytes, of Ed25519
SMALL = 1 << 26  # bytes of a file that is held in memory
END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """What a pack says of itself.

    name: the first digits of the hash of its list, and by that of every byte.
    sums: file -> SHA-256, in the order of the tar.
    info: pack.json.
    signature: of the list, in a signed pack.
    start: where the files begin in the tar.
    """

    name: str
    sums: dict[str, str]
    info: dict[str, Any]
    signature: bytes | None
    start: int

    @property
    def carried(self) -> list[str]:
        """The files that lie in the tar; the box has the others already."""
        absent = set(self.info["absent"])
        return [name for name in self.sums if name not in absent]


def header(name: str, size: int) -> bytes:
    """The blocks before a file: it is nobody's, of no time, and everybody may read it."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """What fills the last block of a file."""
    return bytes(-size % tarfile.BLOCKSIZE)


def sums_text(sums: dict[str, str]) -> bytes:
    """What SHA256SUMS says."""
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()


def parse_sums(data: bytes) -> dict[str, str]:
    """File -> SHA-256 of a list that is exactly as `sums_text` writes it.

    Raises:
        BoxError: it is not, or a name leads out of the directory.
    """
    found = LINE.findall(data.decode("utf-8", "replace"))
    sums = {name: digest for digest, name in found}
    if sums_text(sums) != data:
        raise BoxError(f"{SUMS} is not a list of files and their hashes")
    for name in sums:
        pure = PurePosixPath(name)
        inside = pure.parts[0] in PLACES and ".." not in pure.parts and "\0" not in name
        if not inside or str(pure) != name:
            raise BoxError(f"{SUMS} has a name that leads elsewhere", got=ascii(name))
    return sums


def read_pack(stream: IO[bytes]) -> Pack:
    """What a pack says of itself; its other files are not looked at.

    Raises:
        BoxError: it is no pack, altered, or of another format version.
    """
    listed = _read_small(stream, SUMS)
    sums, signature, start = parse_sums(listed), _read_signature(stream), stream.tell()
    text = _read_small(stream, INFO)
    if hashlib.sha256(text).hexdigest() != sums.get(INFO):
        raise BoxError(f"{INFO} was altered")
    info = json.loads(text)
    if info["format_version"] != FORMAT_VERSION:
        raise BoxError(
            "the pack has another format version",
            got=info["format_version"],
            allowed=FORMAT_VERSION,
            next_step=f"run the {INSTALLER} that lies in it",
        )
    name = hashlib.sha256(listed).hexdigest()[:12]
    return Pack(name=name, sums=sums, info=info, signature=signature, start=start)


def check_files(stream: IO[bytes], pack: Pack, directory: Path | None = None) -> None:
    """Checks the files in the tar and that no more follow; writes them below a directory, if given.

    Raises:
        BoxError: a byte is not what the list says.
    """
    stream.seek(pack.start)
    for name in pack.carried:
        place = Path(os.devnull) if directory is None else directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as output:
            if _copy(stream, name, output) != pack.sums[name]:
                raise BoxError(f"{name} was altered")
    if stream.read(len(END) + 1) != END:
        raise BoxError("the pack does not end behind its last file")


def _copy(stream: IO[bytes], name: str, output: IO[bytes], most: int | None = None) -> str:
    """Copies the file that is next, of so many bytes at most; returns its hash."""
    left = size = _read_header(stream, name)
    if most is not None and size > most:
        raise BoxError(f"{name} is too large", got=f"{size} bytes", allowed=f"up to {most}")
    digest = hashlib.sha256()
    while left:
        chunk = stream.read(min(left, CHUNK))
        if not chunk:
            raise BoxError(f"the pack ends within {name}")
        digest.update(chunk)
        output.write(chunk)
        left -= len(chunk)
    if stream.read(len(padding(size))) != padding(size):
        raise BoxError(f"the pack was altered behind {name}")
    return digest.hexdigest()


def _read_header(stream: IO[bytes], name: str) -> int:
    """The size of the file that is next, which must have this name."""
    blocks = stream.read(len(header(name, 0)))
    try:
        size = tarfile.TarInfo.frombuf(blocks[-tarfile.BLOCKSIZE :], "utf-8", "strict").size
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise BoxError(f"the pack has no file {name} at its place") from error
    if size < 0 or blocks != header(name, size):
        raise BoxError(f"the pack has no file {name} at its place")
    return size


def _read_signature(stream: IO[bytes]) -> bytes | None:
    """The signature, if it is next."""
    place, expected = stream.tell(), header(SIGNATURE, SIGNATURE_SIZE)
    signed = stream.read(len(expected)) == expected
    stream.seek(place)
    return _read_small(stream, SIGNATURE) if signed else None


def _read_small(stream: IO[bytes], name: str) -> bytes:
    data = io.BytesIO()
    _copy(stream, name, data, SMALL)
    return data.getvalue()
