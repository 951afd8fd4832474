"""A pack altered in any byte is refused, and no name of it leads elsewhere."""

import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toolchain.pack.other_pack import other_pack
from toolchain.pack.box.archive import SUMS, check_files, parse_sums, read_pack
from toolchain.pack.box.errors import BoxError

NUM_MUTATIONS = 200


def check(data: bytes) -> None:
    stream = io.BytesIO(data)
    check_files(stream, read_pack(stream))


def structure(data: bytes) -> list[int]:
    """Places of all bytes that belong to no file: headers, what fills blocks, the end."""
    taken: set[int] = set()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            taken.update(range(member.offset_data, member.offset_data + member.size))
    return [place for place in range(len(data)) if place not in taken]


def mutations(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """One byte of a file, one of what lies between files, a bit, a byte less, a byte more."""
    between = structure(data)
    for i in range(NUM_MUTATIONS):
        place = rng.choice(between) if i % 2 else rng.randrange(len(data))
        new = (data[place] ^ (1 << rng.randrange(8))) if i % 4 < 2 else rng.randrange(256)
        if new == data[place]:
            new ^= 1
        kind = i % 20
        if kind == 18:
            yield data[:place] + data[place + 1 :]
        elif kind == 19:
            yield data[:place] + bytes([new]) + data[place:]
        else:
            yield data[:place] + bytes([new]) + data[place + 1 :]


def test_a_pack_altered_in_any_byte_is_refused(pack: Path, tmp_path: Path) -> None:
    with pack.open("rb") as stream:
        large = [name for name in read_pack(stream).sums if name.startswith("wheels/pip-")]
    data = other_pack(pack, tmp_path / "small.tar", dict.fromkeys(large)).read_bytes()
    check(data)
    for altered in mutations(data, random.Random(19)):
        with pytest.raises(BoxError):
            check(altered)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 700, -1, -512, -1024])
def test_a_pack_that_ends_early_is_refused(pack: Path, size: int) -> None:
    with pytest.raises(BoxError):
        check(pack.read_bytes()[:size])


def test_what_follows_a_pack_is_refused(pack: Path) -> None:
    with pytest.raises(BoxError, match="does not end behind its last file"):
        check(pack.read_bytes() + bytes(512))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_tar_with_a_link_or_a_device_is_no_pack(pack: Path, kind: bytes) -> None:
    data = io.BytesIO()
    with (
        tarfile.open(pack) as source,
        tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as altered,
    ):
        for member in source:
            if member.name == "install.sh":
                member.type, member.linkname, member.size = kind, "/etc/passwd", 0
            altered.addfile(member, source.extractfile(member) if member.isreg() else None)
    with pytest.raises(BoxError, match=r"no file install\.sh at its place"):
        check(data.getvalue())


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x",
        "wheels/../../x",
        "./wheels/x",
        "wheels//x",
        "wheels/",
        "..",
        "wheels/\0",
        "env/x",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(BoxError, match="leads elsewhere"):
        parse_sums(f"{'0' * 64}  {name}\n".encode())


@pytest.mark.parametrize(
    "line",
    ["", "x", f"{'0' * 63}  x\n", f"{'A' * 64}  x\n", f"{'0' * 64} *x\n", f"{'0' * 64}  x"],
)
def test_a_list_in_another_form_is_refused(line: str) -> None:
    good = f"{'0' * 64}  wheels/a\n"
    assert parse_sums(good.encode()) == {"wheels/a": "0" * 64}
    with pytest.raises(BoxError, match="not a list of files"):
        parse_sums(f"{good}{line}{good if not line else ''}".encode())


def test_a_list_that_asks_for_all_memory_is_refused() -> None:
    huge = tarfile.TarInfo(SUMS)
    huge.size = 1 << 40
    with pytest.raises(BoxError, match="SHA256SUMS is too large"):
        read_pack(io.BytesIO(huge.tobuf(tarfile.GNU_FORMAT)))
