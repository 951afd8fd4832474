"""install.sh makes a release complete or not at all, with nothing but Python."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.bundle.reader import load_bundle
from tests.toolchain.pack.conftest import Install
from tests.toolchain.pack.other_pack import other_pack
from tests.toolchain.pack.small_wheels import PART
from toolchain.pack.box.archive import read_pack


def tree(directory: Path) -> dict[str, int]:
    """Every path below a directory, and when it was changed."""
    return {
        path.relative_to(directory).as_posix(): path.lstat().st_mtime_ns
        for path in directory.rglob("*")
    }


def test_what_is_installed_runs_with_what_the_pack_holds(prefix: Path, bundles: Path) -> None:
    said = subprocess.run([prefix / "bin/runtime"], capture_output=True, text=True, check=True)
    assert said.stdout == "runtime with part 2.0\n"
    original = load_bundle(bundles / "talk-int4")
    assert load_bundle(prefix / "bundle").digest == original.digest
    assert (prefix / "operate/alpaca2@.service").is_file()
    assert sorted(os.listdir(prefix)) == ["bin", "bundle", "current", "operate", "releases"]


def test_everybody_may_read_what_root_installed(prefix: Path) -> None:
    """The service runs as a user of its own."""
    modes = {path.stat().st_mode & 0o444 for path in prefix.rglob("*")}
    assert modes == {0o444}


def test_to_install_it_again_changes_nothing_and_clears_what_a_killed_run_left(
    pack: Path, install: Install, prefix: Path
) -> None:
    [release] = (prefix / "releases").iterdir()
    before = tree(release)
    killed = prefix / "releases/0123456789ab"
    (killed / "env").mkdir(parents=True)
    assert install(pack, "--prefix", prefix).stdout == f"{release}\n"
    assert tree(release) == before
    assert list((prefix / "releases").iterdir()) == [release]


def test_the_installer_needs_the_standard_library_alone(pack: Path, install: Install) -> None:
    command = [sys.executable, "-I", "-S", str(pack.parent / "install.sh"), str(pack), "--check"]
    subprocess.run(command, check=True, capture_output=True, cwd="/")


def test_an_altered_pack_is_refused_before_anything_is_installed(
    pack: Path, install: Install, tmp_path: Path
) -> None:
    data = bytearray(pack.read_bytes())
    data[-3000] ^= 1
    (tmp_path / "altered.tar").write_bytes(data)
    done = install(tmp_path / "altered.tar", "--prefix", tmp_path / "opt", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: bundle/")
    assert done.stderr.endswith(
        "was altered; copy the pack again, or make it again with `toolchain pack`\n"
    )
    assert not (tmp_path / "opt").exists()


def test_a_check_installs_nothing(pack: Path, install: Install, tmp_path: Path) -> None:
    install(pack, "--check", "--prefix", tmp_path / "opt")
    assert not (tmp_path / "opt").exists()


def test_an_install_that_fails_leaves_the_old_one_in_use(
    pack: Path, install: Install, prefix: Path, tmp_path: Path
) -> None:
    before = tree(prefix / "releases"), os.readlink(prefix / "current")
    lacking = other_pack(pack, tmp_path / "lacking.tar", {f"wheels/{PART}": None})
    done = install(lacking, "--prefix", prefix, check=False)
    assert done.returncode == 1
    assert "error: pip cannot install the wheels of the pack" in done.stderr
    assert "No matching distribution found for box-part>=2" in done.stderr
    assert (tree(prefix / "releases"), os.readlink(prefix / "current")) == before


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [("host_cpu", "riscv64", "another CPU"), ("python", "3.99", "another Python")],
)
def test_a_pack_for_another_box_is_refused(
    key: str, value: str, what: str, pack: Path, install: Install, tmp_path: Path
) -> None:
    with pack.open("rb") as stream:
        info = read_pack(stream).info
    changed = json.dumps(info | {key: value}).encode()
    other = other_pack(pack, tmp_path / "other.tar", {"pack.json": changed})
    done = install(other, "--prefix", tmp_path / "opt", check=False)
    assert done.returncode == 1
    assert f"error: the pack is for {what}; got " in done.stderr
    assert f"allowed: {value}" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_a_directory_that_holds_something_else_is_left_as_it_is(
    pack: Path, install: Install, tmp_path: Path
) -> None:
    (tmp_path / "opt/bin").mkdir(parents=True)
    done = install(pack, "--prefix", tmp_path / "opt", check=False)
    assert done.returncode == 1
    assert "opt/bin is not of an earlier pack" in done.stderr
    assert list(tree(tmp_path / "opt")) == ["bin"]


def test_a_pack_that_is_not_there_is_named(install: Install, tmp_path: Path) -> None:
    done = install(tmp_path / "none.tar", check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: no such file or directory: {tmp_path}/none.tar\n"


def test_a_box_without_that_python_says_so(pack: Path, install: Install) -> None:
    done = subprocess.run(
        ["sh", pack.parent / "install.sh", pack],
        capture_output=True, text=True, env={"PYTHON": "python9.9", "PATH": "/bin:/usr/bin"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: no python9.9 on this box")
