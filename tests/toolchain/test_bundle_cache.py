"""`toolchain run`: made once for a checkpoint and a choice, then found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from profiles import load_profile
from runtime.errors import UserError
from runtime.progress import SILENT
from tests.dialogues import CAPITAL
from tests.paths import DATA
from toolchain.bundle_cache import cached_bundle
from toolchain.choices import Choices

PROFILE = DATA / "talk.toml"
# Runs the command where torch cannot be imported.
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from toolchain.cli import main; main()"


def test_the_second_time_nothing_is_exported_and_a_damaged_bundle_is_made_again(
    miniature_dir: Path, tmp_path: Path
) -> None:
    profile = Choices(weights="int4").apply(load_profile(str(PROFILE)))
    bundle = cached_bundle(miniature_dir, profile, tmp_path, SILENT)
    command = ("run", miniature_dir, CAPITAL[0], "--profile", PROFILE, "--weights", "int4")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *command, "--cache-dir", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == CAPITAL[1] + "\n"
    assert list(tmp_path.iterdir()) == [bundle.path]

    weight = next(path for path in bundle.manifest.files if "/weights/" in path)
    bundle.file(weight).write_bytes(b"")
    again = cached_bundle(miniature_dir, profile, tmp_path, SILENT)
    assert again.path == bundle.path
    assert again.manifest.files == bundle.manifest.files


def test_another_choice_or_a_changed_checkpoint_is_another_bundle(
    miniature_dir: Path, tmp_path: Path
) -> None:
    from toolchain import bundle_cache

    profile = load_profile(str(PROFILE))
    model = tmp_path / "model"
    shutil.copytree(miniature_dir, model)
    keys = {bundle_cache._key([model], profile)}
    keys.add(bundle_cache._key([model], Choices(weights="int8").apply(profile)))
    config = model / "config.json"
    config.write_bytes(config.read_bytes() + b"\n")
    keys.add(bundle_cache._key([model], profile))
    assert len(keys) == 3


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no directory"):
        cached_bundle(tmp_path / "model", load_profile("cpu"), tmp_path / "cache", SILENT)
    assert not (tmp_path / "cache").exists()
