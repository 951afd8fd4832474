"""A pack holds what a box needs, under its hashes, and what cannot be packed is named."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from runtime.bundle.reader import read_manifest
from runtime.progress import SILENT
from tests.paths import ROOT
from tests.toolchain.pack.conftest import BOX
from tests.toolchain.pack.other_pack import other_pack
from tests.toolchain.pack.small_wheels import PART, RUNTIME
from toolchain.errors import PackError
from toolchain.pack.installer import installer
from toolchain.pack.make import Box, make_pack, write_checked
from toolchain.pack.project import run_pip
from toolchain.pack.wheels import check_kernels, extras_of
from toolchain.pack.writer import Member


def files_below(directory: Path) -> dict[str, bytes]:
    files = (file for file in directory.rglob("*") if file.is_file())
    return {file.relative_to(directory).as_posix(): file.read_bytes() for file in files}


def test_the_system_s_own_tools_unpack_a_pack_and_check_it(
    pack: Path, bundles: Path, wheels: Path, tmp_path: Path
) -> None:
    """By hand, with GNU tar and sha256sum: every file is listed, and is what went in."""
    subprocess.run(["tar", "-xf", pack, "-C", tmp_path], check=True)
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, text=True).stdout == ""
    listed = {line.split("  ")[1] for line in (tmp_path / "SHA256SUMS").read_text().splitlines()}
    assert listed | {"SHA256SUMS"} == set(files_below(tmp_path))
    assert files_below(tmp_path / "bundle") == files_below(bundles / "talk-int4")
    assert files_below(tmp_path / "operate") == files_below(ROOT / "docs/operate")
    assert files_below(tmp_path / "wheels") == files_below(wheels)


def test_a_pack_has_plain_files_of_nobody_alone(pack: Path) -> None:
    with tarfile.open(pack) as tar:
        members = tar.getmembers()
    assert {(m.isreg(), m.uid, m.gid, m.mtime, m.mode) for m in members} == {(True, 0, 0, 0, 0o644)}


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(
    pack: Path, tmp_path: Path
) -> None:
    again = other_pack(pack, tmp_path / "again.tar", {"install.sh": installer(BOX.python)})
    assert again.read_bytes() == pack.read_bytes()


def test_a_wheel_that_is_missing_for_that_cpu_is_named(
    bundles: Path, wheels: Path, tmp_path: Path
) -> None:
    offered = tmp_path / "wheels"
    shutil.copytree(wheels, offered)
    (offered / PART).rename(offered / PART.replace("any", "manylinux2014_riscv64"))
    with pytest.raises(PackError, match=r"no wheel of box-part>=2 for that CPU and Python"):
        make_pack(bundles / "talk-int4", tmp_path / "box.tar", BOX, wheels=offered)
    assert [file.name for file in tmp_path.iterdir()] == ["wheels"]


def test_a_wheel_without_the_kernels_that_the_bundle_calls_is_refused(bundles: Path) -> None:
    manifest = read_manifest(bundles / "talk-int4")
    check_kernels(manifest, Path(RUNTIME))
    with pytest.raises(PackError, match="kernels of our own, which the wheel lacks"):
        check_kernels(manifest, Path("alpaca2_toolchain-0.1.0-py3-none-any.whl"))
    check_kernels(read_manifest(bundles / "talk-fp32"), Path("a-1-py3-none-any.whl"))


def test_a_runtime_that_cannot_be_built_is_named() -> None:
    """Without an index, hatch is not there to build its wheel."""
    with pytest.raises(PackError, match=r"runtime cannot be built without hatchling.*--wheels"):
        run_pip(["wheel", "--no-index", "hatchling"], SILENT)


def test_a_directory_of_wheels_that_is_not_there_is_named(bundles: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"no directory .*none; allowed: a directory of wheels"):
        make_pack(bundles / "talk-int4", tmp_path / "box.tar", BOX, wheels=tmp_path / "none")


@pytest.mark.parametrize(
    ("bundle", "extras"), [("talk-int4", ["cpu", "serve"]), ("chatml-fp32", ["cpu", "hf", "serve"])]
)
def test_a_box_gets_the_extras_that_its_bundle_needs(
    bundle: str, extras: list[str], bundles: Path
) -> None:
    manifest = read_manifest(bundles / bundle)
    assert extras_of(manifest, []) == extras
    assert extras_of(manifest, ["constrain"]) == sorted([*extras, "constrain"])
    on_a_chip = manifest.model_copy(update={"backend": "acl"})
    assert extras_of(on_a_chip, []) == [extra for extra in extras if extra != "cpu"]


def test_a_bundle_that_is_altered_after_it_was_read_is_not_packed(
    bundles: Path, tmp_path: Path
) -> None:
    """Its manifest has the hashes that the list takes over."""
    file = bundles / "talk-int4/tokenizer.model"
    member = Member(name="bundle/tokenizer.model", source=file, sha256="0" * 64)
    info = Member.of("pack.json", b'{"format_version": 1, "absent": []}')
    with pytest.raises(PackError, match=r"got bundle/tokenizer\.model was altered; pack it again"):
        write_checked(tmp_path / "box.tar", [info, member], None, SILENT)


def test_an_exported_bundle_is_refused(bundles: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="is not compiled; give the output of `toolchain compile`"):
        make_pack(bundles / "talk-exported", tmp_path / "box.tar", BOX)


@pytest.mark.parametrize("python", ["3.10", "2.7", "3.11.4", "three"])
def test_a_python_that_the_runtime_does_not_take_is_refused(
    python: str, bundles: Path, tmp_path: Path
) -> None:
    box = Box(host_cpu=None, python=python)
    with pytest.raises(PackError, match=f"no such Python; got {python}; allowed: 3.11 or later"):
        make_pack(bundles / "talk-int4", tmp_path / "box.tar", box)


def test_a_directory_that_is_no_checkout_is_named(bundles: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no checkout of this project"):
        make_pack(bundles / "talk-int4", tmp_path / "box.tar", BOX, project=tmp_path)
