"""A pack since another carries what is new, and needs the other on the box."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.toolchain.pack.conftest import BOX, Install
from toolchain.errors import PackError
from toolchain.pack.box.archive import Pack, read_pack
from toolchain.pack.make import make_pack


def read(file: Path) -> Pack:
    with file.open("rb") as stream:
        return read_pack(stream)


@pytest.fixture(scope="module")
def delta(
    pack: Path, bundles: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same runtime with an int8 bundle of the same model, since the pack."""
    file = tmp_path_factory.mktemp("delta") / "delta.tar"
    make_pack(bundles / "talk-int8", file, BOX, wheels=wheels, since=pack)
    return file


def test_only_what_is_new_is_carried_and_everything_is_listed(delta: Path, pack: Path) -> None:
    old, new = read(pack), read(delta)
    assert new.info["since"] == old.name
    assert set(new.carried) | set(new.info["absent"]) == set(new.sums)
    assert {new.sums[name] for name in new.info["absent"]} <= set(old.sums.values())
    assert not [name for name in new.carried if name.startswith(("wheels/", "operate/"))]
    assert {"pack.json", "install.sh", "bundle/manifest.json"} <= set(new.carried)
    assert "bundle/tokenizer.model" in new.info["absent"]
    assert delta.stat().st_size < pack.stat().st_size / 2


def test_a_box_with_the_other_pack_gets_the_whole(
    delta: Path, pack: Path, install: Install, tmp_path: Path
) -> None:
    old = tmp_path / "releases" / read(pack).name
    old.mkdir(parents=True)
    subprocess.run(["tar", "-xf", pack, "-C", old], check=True)
    release = Path(install(delta, "--prefix", tmp_path).stdout.strip())
    assert release == tmp_path / "releases" / read(delta).name
    assert (release / "bundle/tokenizer.model").samefile(old / "bundle/tokenizer.model")
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=release, capture_output=True, text=True).stdout == ""
    said = subprocess.run([tmp_path / "bin/runtime"], capture_output=True, text=True, check=True)
    assert said.stdout == "runtime with part 2.0\n"


def test_a_box_without_it_refuses_and_names_it(
    delta: Path, pack: Path, install: Install, tmp_path: Path
) -> None:
    done = install(delta, "--prefix", tmp_path / "opt", check=False)
    assert done.returncode == 1
    assert f"error: the pack builds on pack {read(pack).name}; got no operate/" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_a_box_where_a_file_of_it_was_altered_refuses(
    delta: Path, install: Install, tmp_path: Path
) -> None:
    """A release of the other pack, whose files all say something else."""
    release = tmp_path / "opt/releases/old"
    absent = read(delta).info["absent"]
    for name in absent:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_bytes(b"altered")
    sums = read(delta).sums
    lines = [f"{sums[name]}  {name}\n" for name in absent]
    (release / "SHA256SUMS").write_text("".join(lines))
    done = install(delta, "--prefix", tmp_path / "opt", check=False)
    assert done.returncode == 1
    assert f"got another {release / absent[0]}" in done.stderr
    assert os.listdir(tmp_path / "opt") == ["releases"]


def test_what_is_no_pack_to_build_on_is_named(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "old.tar").write_bytes(bytes(2048))
    with pytest.raises(PackError, match=r"old\.tar is no pack: the pack has no file SHA256SUMS"):
        make_pack(bundles / "talk-int4", tmp_path / "new.tar", BOX, since=tmp_path / "old.tar")
