"""The emulated Ascend machine from end to end: compile, load, leave; in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulator.device import Emulator
from tests.emulator.samples import Atc, dataset, load, plain
from tests.paths import ROOT

SITE = ROOT / "tests/emulator/site"


def test_a_session_by_the_book_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator = Emulator()
    emulator.install(monkeypatch)
    import acl

    atc = Atc(tmp_path, capsys)

    atc(plain(tmp_path / "m.onnx"))
    acl.init()
    acl.rt.set_device(0)
    stream, _ = acl.rt.create_stream()
    identity = load(acl, tmp_path / "out/m.om")
    made = dataset(acl, (acl.rt.malloc(64, 0)[0], 64))
    buffer = acl.mdl.get_dataset_buffer(made, 0)
    assert acl.mdl.unload(identity) == 0
    assert acl.rt.free(acl.get_data_buffer_addr(buffer)) == 0
    assert acl.destroy_data_buffer(buffer) == 0
    assert acl.mdl.destroy_dataset(made) == 0
    assert acl.mdl.destroy_dataset(made) == 100000
    assert acl.rt.destroy_stream(stream) == 0
    assert acl.rt.reset_device(0) == 0
    assert acl.finalize() == 0
    assert emulator.leaks() == []
    assert emulator.freed_by_reset == []
    assert "destroyed Dataset" in emulator.violations[0]


def test_a_subprocess_reports(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}",
        "ACL_EMULATOR_REPORT": str(report),
        "ACL_EMULATOR_SOC_NAME": "Ascend910B3",
        "ACL_EMULATOR_FAIL_AT": "rt.malloc:1",
    }
    script = (
        "import acl, ctypes; acl.init(); acl.rt.set_device(0); print(acl.get_soc_name(),"
        "acl.rt.malloc(8, 0), hasattr(ctypes.CDLL('libascendcl.so'),"
        "'aclmdlSetExternalWeightAddress')); acl.rt.free(5)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "Ascend910B3 (0, 207018) True\n", done.stderr
    found = json.loads(report.read_text())
    assert len(found["violations"]) == 1
    assert "acl.init without acl.finalize" in found["leaks"]
