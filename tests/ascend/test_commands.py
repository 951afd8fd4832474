"""The commands themselves, in processes of their own, as a person types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ascend.conftest import Toolkit
from tests.dialogues import CAPITAL
from tests.paths import ROOT


def run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"from {script}.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def card(tmp_path: Path) -> dict[str, str]:
    """What puts the emulated card in a process."""
    return {
        "PYTHONPATH": f"{ROOT / 'tests/emulator/site'}{os.pathsep}{ROOT}",
        "ACL_EMULATOR_REPORT": str(tmp_path / "report.json"),
        "ACL_EMULATOR_NUM_DEVICES": "2",
    }


def test_compile_then_generate_then_verify(
    bundles: Path, toolkit: Toolkit, card: dict[str, str], tmp_path: Path
) -> None:
    toolkit()
    om = tmp_path / "om"
    options = ("--target", "310p3", "--weights", "fp16")
    compiled = run("toolchain", "compile", bundles / "talk-exported", "-o", om, *options)
    assert compiled.returncode == 0, compiled.stderr
    # Each has a mask of its own for new rows: 8 KB, much of the miniature, nothing of the 7B.
    assert "3 OMs share 99.5% of" in compiled.stderr
    assert compiled.stderr.splitlines()[-1].startswith(f"wrote {om}: 310p3 fp16, ")

    said = run("runtime", "generate", om, CAPITAL[0], "--device", "1", **card)
    assert (said.returncode, said.stdout) == (0, f"{CAPITAL[1]}\n"), said.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["violations"], report["leaks"], report["freed_by_reset"]) == ([], [], [])

    ids = bundles / "checkpoint" / "dialogue_ids.json"
    model = ("--model", bundles / "checkpoint", "--ids", ids)
    verified = run("toolchain", "verify", om, *model, **card)
    assert verified.returncode == 0, verified.stderr
    assert "decode_b1" in verified.stdout

    shown = run("toolchain", "inspect", om)
    assert "Ascend310P3" in shown.stdout
    assert "share 99.5%" in shown.stdout


def test_a_driver_that_fails_is_one_line_and_exit_1(
    bundles: Path, toolkit: Toolkit, card: dict[str, str], tmp_path: Path
) -> None:
    toolkit()
    om = tmp_path / "om"
    options = ("--target", "910b3", "--weights", "int8", "--via", "onnx")
    assert (
        run("toolchain", "compile", bundles / "talk-exported", "-o", om, *options).returncode == 0
    )
    wrong_chip = run("runtime", "generate", om, "x", **card)
    assert wrong_chip.returncode == 1
    [line] = wrong_chip.stderr.splitlines()
    assert line.startswith("error: device 0 is another chip than the bundle is compiled for; got ")
    card |= {"ACL_EMULATOR_SOC_NAME": "Ascend910B3", "ACL_EMULATOR_FAIL_AT": "mdl.execute_async:1"}
    failed = run("runtime", "generate", om, "x", **card)
    assert failed.returncode == 1
    [line] = failed.stderr.splitlines()
    assert line.startswith("error: acl.mdl.execute_async failed; got ")
    assert "EZ9999: injected in mdl.execute_async" in line
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["violations"], report["leaks"], report["freed_by_reset"]) == ([], [], [])
