"""A box with a key takes packs of that key's owner alone."""

import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.progress import SILENT
from tests.toolchain.pack.conftest import Install
from toolchain.errors import PackError
from toolchain.pack.box.archive import SIGNATURE, header, read_pack, sums_text
from toolchain.pack.signature import signer
from toolchain.pack.writer import Member, write_pack

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def make_key(directory: Path, name: str = "key", algorithm: str = "ed25519") -> Path:
    """A private key, and the public one beside it; as docs/pack.md makes them."""
    openssl(directory, "genpkey", "-algorithm", algorithm, "-out", f"{name}.pem")
    openssl(directory, "pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub")
    return directory / f"{name}.pem"


def signature_of(data: bytes, key: Path) -> bytes:
    """By openssl."""
    (key.parent / "data").write_bytes(data)
    arguments = ["-rawin", "-in", "data", "-out", "signature"]
    openssl(key.parent, "pkeyutl", "-sign", "-inkey", key.name, *arguments)
    return (key.parent / "signature").read_bytes()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def signed(pack: Path, key: Path) -> Path:
    """The pack with a signature that openssl made."""
    directory, output = key.parent / "files", key.parent / "signed.tar"
    directory.mkdir()
    subprocess.run(["tar", "-xf", pack, "-C", directory], check=True)
    with pack.open("rb") as stream:
        members = [Member.of(name, directory / name) for name in read_pack(stream).sums]
    with output.open("wb") as file:
        write_pack(file, members, SILENT, lambda data: signature_of(data, key))
    return output


def test_a_signed_pack_is_taken_with_the_key_of_its_maker(
    signed: Path, key: Path, install: Install
) -> None:
    install(signed, "--check", "--verify", key.with_suffix(".pub"))


def test_openssl_and_cryptography_make_the_same_signature(key: Path) -> None:
    pytest.importorskip("cryptography")
    assert signer(key)(b"list") == signature_of(b"list", key)


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa"])
def test_a_pack_of_another_key_is_refused(
    algorithm: str, signed: Path, install: Install, tmp_path: Path
) -> None:
    other = make_key(tmp_path, "other", algorithm).with_suffix(".pub")
    done = install(signed, "--prefix", tmp_path / "opt", "--verify", other, check=False)
    assert done.returncode == 1
    assert f"error: the pack is not signed with {other}" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_a_signed_pack_with_another_signature_is_refused(
    signed: Path, key: Path, install: Install, tmp_path: Path
) -> None:
    data = bytearray(signed.read_bytes())
    place = data.index(header(SIGNATURE, 64)) + 512
    data[place + 10] ^= 4
    (tmp_path / "altered.tar").write_bytes(data)
    public = key.with_suffix(".pub")
    done = install(tmp_path / "altered.tar", "--check", "--verify", public, check=False)
    assert "error: the pack is not signed with" in done.stderr


def test_an_unsigned_pack_is_refused_where_a_key_is_given(
    pack: Path, key: Path, install: Install, tmp_path: Path
) -> None:
    public = key.with_suffix(".pub")
    done = install(pack, "--prefix", tmp_path / "opt", "--verify", public, check=False)
    assert done.returncode == 1
    assert "error: the pack is not signed; allowed: packs that" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_a_key_that_is_not_there_is_named(signed: Path, install: Install, tmp_path: Path) -> None:
    done = install(signed, "--check", "--verify", tmp_path / "none.pub", check=False)
    assert f"error: no key at {tmp_path}/none.pub; copy its maker's public key" in done.stderr


def test_a_signed_pack_is_refused_where_no_key_is_given(signed: Path, install: Install) -> None:
    """Else a byte of its signature could be altered unseen."""
    done = install(signed, "--check", check=False)
    assert done.returncode == 1
    assert "error: the pack is signed; give its maker's key: --verify KEY" in done.stderr


def test_the_signature_is_that_of_the_list_by_hand(signed: Path, key: Path) -> None:
    with signed.open("rb") as stream:
        pack = read_pack(stream)
    assert pack.signature == signature_of(sums_text(pack.sums), key)


@pytest.mark.parametrize("kind", ["rsa", "public", "text"])
def test_what_is_no_key_to_sign_with_is_named(kind: str, key: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    (tmp_path / "text.pem").write_text("no key\n")
    shutil.copy(key.with_suffix(".pub"), tmp_path / "public.pem")
    make_key(tmp_path, "rsa", "rsa")
    with pytest.raises(PackError, match=f"{kind}.pem is no private key to sign with"):
        signer(tmp_path / f"{kind}.pem")
