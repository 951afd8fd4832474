"""Claims about benchmarks/cuda.py, on a CPU: what it measures there is no GPU's."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.paths import ROOT

SCRIPTS = ROOT / "benchmarks"
NAMES = ("cuda", "cuda_parts", "cuda_steps", "cuda_table")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(SCRIPTS)
    yield importlib.import_module("cuda")
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name)


def test_a_part_that_fails_is_a_line_and_the_next_one_runs(
    cuda: ModuleType, tmp_path: Path
) -> None:
    def fails(_: object) -> list[object]:
        raise RuntimeError("no such\ncompiler")

    def works(_: object) -> list[object]:
        return [cuda.Line(part="works", what="x", measured="1 | 2", goal="3")]

    steps = cuda.Steps(cuda.SETTINGS["cpu"], tmp_path, 60)
    lines = cuda.run_parts({"fails": fails, "works": works}, steps)
    text = cuda.table(lines, cuda.SETTINGS["cpu"], "a card")
    assert "UTC, a card, torch-cpu, 1 layers, 64 rows" in text.splitlines()[0]
    assert "| fails |  | failed: RuntimeError: no such compiler |  |" in text
    assert "| works | x | 1 \\| 2 | 3 |" in text


def test_what_does_not_fit_the_time_is_said(cuda: ModuleType, tmp_path: Path) -> None:
    steps = cuda.Steps(cuda.SETTINGS["cpu"], tmp_path, 0)
    sleeps = "import time; time.sleep(60)"
    [line] = cuda.run_parts({"long": lambda s: s.run(sys.executable, "-c", sleeps)}, steps)
    assert line.measured.startswith("failed: TimeoutExpired")


def test_the_goals_stand_beside_what_was_measured(cuda: ModuleType, tmp_path: Path) -> None:
    """Of one sequence: 13.4 GB in 5 ms, where a copy reaches 3,000 GB/s."""
    parts = importlib.import_module("cuda_parts")
    steps = cuda.Steps(cuda.SETTINGS["cuda"], tmp_path, 60)
    steps.found = {"copy_bytes_per_s": 3e12, "products_ms": 10.0}
    rows = {
        weights: {
            "batch_size": 1,
            "ttft_ms": {"median": 12.0},
            "decode": {"took_ms": took, "moved_bytes": 13.4e9},
        }
        for weights, took in (("fp16", 5.0), ("int4", 2.0))
    }
    plain, first = parts._lines(steps, "fp16", rows["fp16"])
    assert plain.measured == "5.00 ms, 200 tokens/s, 2,680.0 GB/s, 89% of the copy"
    assert plain.goal == ">= 85% of the copy"
    assert (first.measured, first.goal) == ("12.0 ms, 1.20 x the products", "<= 1.3 x")
    four, _ = parts._lines(steps, "int4", rows["int4"])
    assert four.measured.endswith("2.50 x")
    assert four.goal == ">= 2.2 x fp16"


@pytest.mark.slow
def test_the_script_starts_on_a_cpu_and_writes_its_table(tmp_path: Path) -> None:
    output = tmp_path / "cuda.md"
    parts = [word for part in ("machine", "environment", "rates") for word in ("--part", part)]
    command = [sys.executable, str(SCRIPTS / "cuda.py"), "--device", "cpu", *parts]
    done = subprocess.run(
        [*command, "--output", str(output), "--work", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert output.read_text() == done.stdout
    assert "failed" not in done.stdout, done.stdout
    assert "| products | 32 tokens, linear layers alone |" in done.stdout
