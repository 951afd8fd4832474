"""`runtime serve` as a process, for clients in an environment of their own: `make clients-test`.

SERVER_BIN is where `runtime` and its Python are. Without it, nothing here is collected.
"""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.clients.direct import PAIRS, Score, Scored
from tests.paths import ROOT

if "SERVER_BIN" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
OWN = {"127.0.0.1", "localhost", None}
KEY = "a-key-of-this-suite-alone"
# Every stream waits for its first token as if that took long.
WAITING = {"RUNTIME_SERVE_PING_INTERVAL": "0.001"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where it is, and a key that it takes."""

    url: str
    key: str = KEY

    @property
    def api(self) -> str:
        return f"{self.url}/v1"


def of_server(name: str) -> str:
    """A program of the environment that the server runs in."""
    return str(ROOT / os.environ["SERVER_BIN"] / name)


@pytest.fixture(scope="session", autouse=True)
def _nobody_else_is_asked() -> Iterator[None]:
    """Fails the suite when a client looks up any computer but this one."""
    looked_up: list[Any] = []
    look_up = socket.getaddrinfo

    def own_only(host: Any, *arguments: Any, **named: Any) -> Any:
        if host not in OWN:
            looked_up.append(host)
            raise socket.gaierror(f"{host} is not this computer")
        return look_up(host, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", own_only)
        yield
    assert looked_up == []


@pytest.fixture(scope="session")
def server(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server on the miniature in float32; OPENAI_API_KEY is its key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    options = ("--port", "0", "--model-name", "talk", "--api-key-file", str(keys))
    command = [of_server("runtime"), "serve", str(bundles / "talk-fp32"), *options]
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | WAITING
        ) as process,
    ):
        patch.setenv("OPENAI_API_KEY", KEY)
        try:
            yield Server(url=_ready(process))
        finally:
            process.terminate()
            process.wait(60)
    assert process.returncode == 0


def _ready(process: "subprocess.Popen[str]") -> str:
    """Its address, once its model is loaded."""
    assert process.stderr is not None
    for line in process.stderr:
        record = json.loads(line)
        if record["message"] == "listening":
            url = f"http://{record['host']}:{record['port']}"
        if record["message"] == "ready":
            Thread(target=process.stderr.read, name="log").start()  # else the pipe fills up
            return url
    raise AssertionError("the server ended before it was ready")


@pytest.fixture(scope="session")
def direct(bundles: Path) -> Scored:
    """What transformers says of PAIRS, in float64."""
    done = subprocess.run(
        [of_server("python"), "-m", "tests.clients.direct", bundles / "checkpoint"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return {
        name: dict(zip(PAIRS, (Score(*each) for each in scores), strict=True))
        for name, scores in json.loads(done.stdout).items()
    }
