"""No library leaves a file, opens a socket or prints in our name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "from runtime.cli import main; main()"
# Ends the process where anything reaches for the network.
NO_SOCKETS = """
import os, sys
def watch(event, arguments):
    if event.startswith("socket."):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(99)
sys.addaudithook(watch)
"""
QUESTION = "What is an edge box?"


@pytest.mark.parametrize("name", ["talk-int4", "talk-exported"])
@pytest.mark.parametrize("telemetry", [None, "0"])
def test_a_run_leaves_no_file_in_home_or_tmpdir_and_opens_no_socket(
    name: str, telemetry: str | None, bundles: Path, tmp_path: Path
) -> None:
    """ONNX Runtime writes a device id and a database into a home that it is not told to spare.

    Who asks for it with ORT_DISABLE_TELEMETRY=0 has it.
    """
    home, scratch = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    scratch.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(scratch)}
    for variable in ("ORT_DISABLE_TELEMETRY", "CI"):  # it keeps quiet in a CI by itself
        environment.pop(variable, None)
    if telemetry is not None:
        environment["ORT_DISABLE_TELEMETRY"] = telemetry
    done = subprocess.run(
        [sys.executable, "-c", NO_SOCKETS + MAIN, "generate", bundles / name, QUESTION, "--json"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["text"]
    left = [path for folder in (home, scratch) for path in folder.rglob("*") if path.is_file()]
    assert bool(left) == (telemetry == "0")


def test_onnx_runtime_is_imported_in_one_place() -> None:
    root = Path(__file__).parents[2]
    files = [
        file for part in ("runtime", "toolchain", "export") for file in (root / part).rglob("*.py")
    ]
    importing = [
        file.relative_to(root).as_posix()
        for file in files
        if "import onnxruntime" in file.read_text(encoding="utf-8")
    ]
    assert importing == ["runtime/sessions/onnx/library.py"]
