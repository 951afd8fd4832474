"""Where chunks end is nobody's business: any chunk size gives the same bundle."""

from pathlib import Path

import pytest

from export import checkpoint
from export.exporter import export_bundle
from profiles import load_profile
from runtime.bundle.manifest import FileEntry
from runtime.bundle.reader import load_bundle
from runtime.progress import SILENT
from tests.paths import DATA
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle


@pytest.mark.parametrize("weights", ["int4", "int8", "fp32"])
def test_compiling_in_small_blocks_writes_the_same_files(
    weights: str, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = load_bundle(bundles / "small-exported")
    whole = compile_bundle(exported, tmp_path / "whole", Choices(weights=weights), progress=SILENT)
    monkeypatch.setattr(
        "toolchain.targets.weights.ROW_BLOCK", 1000
    )  # a few rows, and a shorter last block
    monkeypatch.setattr("toolchain.targets.weights.COLUMN_BLOCK", 1000)
    pieces = compile_bundle(
        exported, tmp_path / "pieces", Choices(weights=weights), progress=SILENT
    )
    assert pieces.manifest.files == whole.manifest.files


def test_exporting_in_small_chunks_writes_the_same_weights(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK_ELEMENTS", 1000)
    profile = load_profile(str(DATA / "talk.toml"))
    pieces = export_bundle(bundles / "checkpoint", profile, tmp_path / "pieces", SILENT)

    def weights(files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        return {name: entry for name, entry in files.items() if "/weights/" in name}

    whole = load_bundle(bundles / "talk-exported").manifest.files
    assert weights(pieces.manifest.files) == weights(whole)
