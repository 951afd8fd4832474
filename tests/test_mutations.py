"""Mutated configs, manifests, profiles, shards, results and tokenizers: a named error, or right.

MUTATIONS=250 pytest tests/test_mutations.py tries 2,000 instead of the few of every run.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations.kinds import KINDS

COUNT = os.environ.get("MUTATIONS", "12")
SEED = "0"


@pytest.fixture(scope="module")
def originals(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles, on the disk where mutants link to them, and a result of bench."""
    directory = tmp_path_factory.mktemp("originals")
    for name in ("checkpoint", "talk-int4"):
        shutil.copytree(bundles / name, directory / name)
    bench = "from toolchain.cli import main; main()"
    case = ("bench", bundles / "talk-int4", "--case", "4,2", "--repeats", "1", "--json")
    command = [sys.executable, "-c", bench, *map(str, case)]
    (directory / "result.json").write_bytes(subprocess.check_output(command))
    return directory


@pytest.mark.parametrize("kind", KINDS)
def test_every_mutant_is_a_named_error_or_right(kind: str, originals: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.mutations", kind, COUNT, SEED]
    found = subprocess.run(
        [*command, originals, tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # a fork has no other threads
        check=False,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
