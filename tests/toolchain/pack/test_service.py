"""An installed pack becomes the service of docs/operate.md, and what is the keeper's stays."""

import json
import shutil
from pathlib import Path

import pytest

from runtime.server.keys import read_keys
from tests.paths import ROOT
from tests.toolchain.pack.conftest import Install
from toolchain.pack.service import install_service

OPERATE = ROOT / "docs/operate"


def make_release(directory: Path, chip: str | None) -> Path:
    (directory / "bundle").mkdir(parents=True)
    shutil.copytree(OPERATE, directory / "operate")
    (directory / "pack.json").write_text(json.dumps({"chip": chip}))
    return directory


@pytest.mark.parametrize("chip", [None, "Ascend310P3"])
def test_every_file_lies_where_docs_operate_md_says(chip: str | None, tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", chip)
    install_service(release, 8001, tmp_path)
    units = tmp_path / "etc/systemd/system"
    unit = "alpaca2@.service"
    assert (units / unit).read_bytes() == (OPERATE / unit).read_bytes()
    settings = tmp_path / "etc/alpaca2/serve.toml"
    assert settings.read_bytes() == (OPERATE / "serve.toml").read_bytes()
    assert (units / f"{unit}.d/ascend.conf").is_file() == (chip is not None)
    assert (tmp_path / "var/lib/alpaca2/8001").samefile(release / "bundle")


def test_a_key_of_its_own_is_made_for_root_alone(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", None)
    keys = [tmp_path / name / "etc/alpaca2/keys" for name in ("one", "two")]
    for file in keys:
        install_service(release, 8001, file.parents[2])
        assert file.stat().st_mode & 0o777 == 0o600
        assert read_keys(file).admit(b"Bearer " + file.read_bytes().strip())
    assert keys[0].read_bytes() != keys[1].read_bytes()


def test_a_second_pack_changes_the_bundle_and_no_settings(tmp_path: Path) -> None:
    first, second = (make_release(tmp_path / name, None) for name in ("first", "second"))
    install_service(first, 8001, tmp_path)
    kept = [tmp_path / "etc/alpaca2" / name for name in ("keys", "serve.toml")]
    kept[1].write_text("max_requests = 4\n")
    before = [file.read_bytes() for file in kept]
    install_service(second, 8001, tmp_path)
    assert [file.read_bytes() for file in kept] == before
    assert (tmp_path / "var/lib/alpaca2/8001").samefile(second / "bundle")


def test_a_service_elsewhere_than_the_unit_says_is_refused(
    pack: Path, install: Install, tmp_path: Path
) -> None:
    done = install(pack, "--prefix", tmp_path / "opt", "--service", "8001", check=False)
    assert done.returncode == 1
    assert "allowed: /opt/alpaca2; leave out --prefix" in done.stderr
    assert not (tmp_path / "opt").exists()
