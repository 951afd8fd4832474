"""The commands that a box needs run on what the base install brings, and no more.

`make runtime-alone` runs this file where nothing else is installed. Elsewhere what the extras
bring cannot be imported.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.paths import DATA

BACKEND = "onnxruntime"  # of the extra cpu
EXTRAS = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "matplotlib", "transformers")
RUN = "import sys; sys.modules.update(dict.fromkeys({blocked!r})); import {cli}; {cli}.main()"


def run(*command: str | Path, blocked: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs `toolchain ...` or `runtime ...` where some packages cannot be imported."""
    name, *arguments = map(str, command)
    code = RUN.format(blocked=tuple(blocked), cli=f"{name}.cli")
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "command",
    [
        ("toolchain", "plan", "{bundles}/checkpoint", "--json"),
        ("toolchain", "plan", "{bundles}/checkpoint", "--profile", "310p3", "--no-lowered"),
        ("toolchain", "compare", "manual:910b3", "manual:a100"),
        ("toolchain", "inspect", "{bundles}/talk-int4"),
        ("toolchain", "profiles"),
    ],
    ids=lambda command: " ".join(command[1:3]),
)
def test_the_base_install_runs_what_needs_no_backend(
    command: tuple[str, ...], bundles: Path
) -> None:
    done = run(*(part.format(bundles=bundles) for part in command), blocked=(BACKEND, *EXTRAS))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_base_install_plans_for_a_chip_and_says_what_it_cannot_count(bundles: Path) -> None:
    command = ("toolchain", "plan", bundles / "checkpoint", "--profile", "310p3", "--json")
    done = run(*command, blocked=(BACKEND, *EXTRAS))
    assert done.returncode == 0
    assert "pip install '.[export]'" in done.stderr
    assert json.loads(done.stdout)["fits"]


@pytest.mark.parametrize("profile", ["cpu", "310p3"])
def test_the_base_install_runs_doctor_which_names_what_is_missing(profile: str) -> None:
    done = run("toolchain", "doctor", "--profile", profile, "--json", blocked=(BACKEND, *EXTRAS))
    assert {item["name"] for item in json.loads(done.stdout)["items"]} >= {"system", "Python"}
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr


def test_the_base_install_and_a_backend_run_bench(bundles: Path) -> None:
    case = ("--case", "4,2", "--repeats", "1", "--json")
    done = run("toolchain", "bench", bundles / "talk-int4", *case, blocked=EXTRAS)
    assert done.returncode == 0, done.stderr
    assert [row["input_tokens"] for row in json.loads(done.stdout)["rows"]] == [4]


def test_the_base_install_and_a_backend_run_eval(bundles: Path, tmp_path: Path) -> None:
    data = ("--data", DATA / "ceval", "--subjects", "law", "--limit", "1", "--shots", "0")
    command = ("toolchain", "eval", "ceval", bundles / "talk-int4", *data, "-o", tmp_path / "out")
    done = run(*command, "--style", "alpaca2", "--json", blocked=EXTRAS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["benchmark"] == "ceval"


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("toolchain", "compile", "{bundles}/talk-exported", "-o", "{out}"), "compile"),
        (("toolchain", "export", "{bundles}/checkpoint", "-o", "{out}"), "export"),
        (("toolchain", "bench", "{bundles}/talk-int4", "--report", "{out}"), "report"),
        (("runtime", "generate", "{bundles}/talk-int4", "Hello"), "cpu"),
    ],
)
def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(
    command: tuple[str, ...], extra: str, bundles: Path, tmp_path: Path
) -> None:
    parts = (part.format(bundles=bundles, out=tmp_path / "out") for part in command)
    done = run(*parts, blocked=(BACKEND, *EXTRAS))
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert "needs the Python package " in error
    assert "; install alpaca2-toolchain[" in error
    assert f"[{extra}]" in error
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
