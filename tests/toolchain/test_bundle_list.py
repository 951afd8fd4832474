"""`toolchain bundles` lists what lies below a directory; `inspect` tells two bundles apart."""

import json
import shutil
from pathlib import Path

import pytest

from tests.toolchain.test_cli import one_line_error, toolchain


def test_every_bundle_is_listed_with_what_tells_it_apart(bundles: Path, tmp_path: Path) -> None:
    for name, place in (("talk-int4", "a"), ("talk-int4-kv8", "b/c"), ("talk-exported", "b/d")):
        shutil.copytree(bundles / name, tmp_path / place)
    (tmp_path / "b/c/manifest.json").write_bytes(b"{}")
    (tmp_path / "no-bundle").mkdir()
    (tmp_path / ".hidden").mkdir()
    shutil.copytree(bundles / "talk-int8", tmp_path / ".hidden/e")
    result = toolchain("bundles", tmp_path, "--json")
    assert result.returncode == 0
    found = json.loads(result.stdout)["bundles"]
    assert [(each["bundle"], each["stage"], each["weights"]) for each in found] == [
        ("a", "compiled", "int4"),
        ("b/d", "exported", "fp16"),
    ]
    assert result.stderr.startswith(f"left out: {tmp_path / 'b/c/manifest.json'} was altered")


def test_the_table_of_bundles_fits_80_columns(bundles: Path) -> None:
    lines = toolchain("bundles", bundles).stdout.splitlines()
    [row] = [line.split() for line in lines if line.startswith(" talk-int4 ")]
    assert row[:5] == ["talk-int4", "cpu", "int4", "float32", "384"]
    assert max(map(len, map(str.rstrip, lines[1:]))) <= 80


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "no directory" in one_line_error(toolchain("bundles", tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("talk-int4", {"cache": "float32, 1 slots", "backend": "onnxruntime"}),
        (
            "talk-int4-kv8",
            {
                "cache": "int8, 1 slots",
                "weights": "int4, one scale for 32 inputs; lm_head int8, 32",
            },
        ),
        ("talk-exported", {"cache": "float16, 1 slots", "passes left out": "none"}),
    ],
)
def test_inspect_says_what_was_chosen(name: str, facts: dict[str, str], bundles: Path) -> None:
    lines = toolchain("inspect", bundles / name).stdout.splitlines()
    for fact, value in facts.items():
        assert any(line.split() == [*fact.split(), *value.split()] for line in lines)
