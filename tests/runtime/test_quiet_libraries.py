"""No library leaves a file, opens a socket or prints in our name."""

import ctypes
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.cli import app
from tests.dialogues import CAPITAL, LLAMA

MAIN = "from runtime.cli import main; main()"
SOCKET = {"x86_64": 41, "aarch64": 198}  # number of the system call
REQUEST = json.dumps(
    {
        "custom_id": "1",
        "method": "POST",
        "url": "/v1/completions",
        "body": {"model": "talk-int4", "prompt": CAPITAL[0], "max_tokens": 4},
    }
)
# What is done -> arguments, and what is typed; {} is the bundle.
RUNS = {
    "generate": (["generate", "{}", CAPITAL[0]], ""),
    "generate-json": (["generate", "{}", CAPITAL[0], "--json", "--logprobs", "2"], ""),
    "generate-file": (["generate", "{}", CAPITAL[0], "-o", "/dev/stdout"], ""),
    "generate-profile": (["generate", "{}", CAPITAL[0], "--profile-run", "-n", "2"], ""),
    "generate-help": (["generate", "--help"], ""),
    "chat": (["chat", "{}"], f"{CAPITAL[0]}\n/reset\n{LLAMA[0]}\n/exit\n"),
    "chat-help": (["chat", "--help"], ""),
    "batch": (["batch", "{}", "-", "-o", "../answers.jsonl", "--json"], f"{REQUEST}\n"),
    "batch-help": (["batch", "--help"], ""),
    "serve-help": (["serve", "--help"], ""),
    "version": (["--version"], ""),
    "help": (["--help"], ""),
}


class _Step(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = (
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    )


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.POINTER(_Step)))


def forbid_sockets() -> None:
    """In the child: the kernel kills a process that asks for a socket, be it Python or a library.

    More than an empty network namespace does, in which a socket can be opened.
    """
    steps = (_Step * 4)(
        _Step(0x20, 0, 0, 0),  # load the number of the system call
        _Step(0x15, 0, 1, SOCKET[platform.machine()]),  # equal: go on, else skip one
        _Step(0x06, 0, 0, 0x80000000),  # SECCOMP_RET_KILL_PROCESS
        _Step(0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    )
    program = _Program(len(steps), steps)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(program), 0, 0)):
        if prctl(*arguments) != 0:  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
            raise OSError(ctypes.get_errno(), "prctl")


def run_alone(
    script: str, arguments: list[str], typed: str, directory: Path, telemetry: str | None = None
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Runs in a fresh home, TMPDIR and working directory; tells what is left in them."""
    places = {name: directory / name for name in ("HOME", "TMPDIR", "work")}
    for place in places.values():
        place.mkdir()
    environment = {**os.environ, **{name: str(place) for name, place in places.items()}}
    for variable in [name for name in environment if name.startswith("XDG_")] + ["CI"]:
        environment.pop(variable, None)  # ONNX Runtime keeps quiet in a CI by itself
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    if telemetry is not None:
        environment["ORT_DISABLE_TELEMETRY"] = telemetry
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        input=typed,
        env=environment,
        cwd=places["work"],
        preexec_fn=forbid_sockets,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, [path.name for place in places.values() for path in place.rglob("*")]


def test_every_command_of_the_runtime_is_run_below() -> None:
    registered = {command.name for command in app.registered_commands}
    registered.remove("serve")  # it is there to open a socket; its help is not
    assert registered == {arguments[0] for arguments, _ in RUNS.values() if "{}" in arguments}


@pytest.mark.parametrize("name", ["talk-int4", "talk-exported"])
@pytest.mark.parametrize("run", RUNS)
def test_a_run_leaves_no_file_and_opens_no_socket(
    run: str, name: str, bundles: Path, tmp_path: Path
) -> None:
    """ONNX Runtime writes a device id and a database into a home that it is not told to spare."""
    arguments, typed = RUNS[run]
    filled = [part.format(bundles / name) for part in arguments]
    done, left = run_alone(MAIN, filled, typed, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert left == []


def test_who_asks_for_telemetry_has_it(bundles: Path, tmp_path: Path) -> None:
    """Otherwise the files above could be missing for another reason."""
    arguments = ["generate", str(bundles / "talk-int4"), CAPITAL[0]]
    done, left = run_alone(MAIN, arguments, "", tmp_path, telemetry="0")
    assert done.returncode == 0, done.stderr
    assert left


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX"])
def test_a_socket_would_be_seen(family: str, tmp_path: Path) -> None:
    done, _ = run_alone(f"import socket; socket.socket(socket.{family})", [], "", tmp_path)
    assert done.returncode == -31  # SIGSYS


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
    assert importing == ["runtime/sessions/onnx/quiet_ort.py"]
