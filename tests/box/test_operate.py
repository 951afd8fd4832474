"""The files in docs/operate/ do what docs/operate.md says, with the real systemd and nginx."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runtime.server.metrics import PREFIX
from runtime.server.settings import load_settings
from tests.dialogues import BOX, CAPITAL
from tests.paths import ROOT
from tests.serving import PATIENCE, Gate, Serving, eventually, make_service, ready

OPERATE = ROOT / "docs/operate"
UNIT = OPERATE / "alpaca2@.service"
STREAM = {"messages": [{"role": "user", "content": BOX[0]}], "stream": True}
PLAIN = {"messages": [{"role": "user", "content": CAPITAL[0]}]}

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd on this machine"
)
needs_nginx = pytest.mark.skipif(
    None in (shutil.which("nginx"), shutil.which("openssl")), reason="no nginx on this machine"
)


def unit(directory: Path, *, with_ascend: bool) -> Path:
    """The unit with a command that exists, and with the drop-in where it is asked for."""
    text = UNIT.read_text().replace("/opt/alpaca2/bin/runtime", sys.executable)
    if with_ascend:
        text += (OPERATE / "ascend.conf").read_text()
    file = directory / UNIT.name
    file.write_text(text)
    return file


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


@needs_systemd
@pytest.mark.parametrize("with_ascend", [False, True])
def test_systemd_finds_nothing_wrong_with_the_unit(with_ascend: bool, tmp_path: Path) -> None:
    found = analyze("verify", "--man=no", unit(tmp_path, with_ascend=with_ascend))
    own = [line for line in found.stderr.splitlines() if "alpaca2" in line]
    assert own == []
    assert found.returncode == 0


@needs_systemd
@pytest.mark.parametrize("with_ascend", [False, True])
def test_the_unit_is_exposed_to_little(with_ascend: bool, tmp_path: Path) -> None:
    file = unit(tmp_path, with_ascend=with_ascend)
    found = analyze("security", "--offline=true", "--threshold=25", file)  # of 100
    assert found.returncode == 0, found.stdout[-300:]


def test_the_settings_are_taken_and_end_before_systemd_loses_patience() -> None:
    settings = load_settings(OPERATE / "serve.toml", {})
    timeout = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.M)
    assert timeout is not None
    assert settings.drain_timeout + 3 < int(timeout[1])
    size = re.search(r"client_max_body_size +(\d+)m;", (OPERATE / "nginx.conf").read_text())
    assert size is not None
    assert settings.max_body_bytes == int(size[1]) << 20


def test_every_metric_of_the_dashboard_and_the_alerts_is_one_of_the_server(
    bundles: Path,
) -> None:
    with ready(make_service(bundles / "talk-int4")) as server, server.http() as http:
        exported = set(re.findall(rf"^# TYPE ({PREFIX}_\w+)", http.get("/metrics").text, re.M))
    for file in (OPERATE / "grafana.json", ROOT / "docs/operate.md"):
        named = set(re.findall(rf"\b{PREFIX}_\w+", file.read_text(encoding="utf-8")))
        assert named, file
        assert {re.sub(r"_(bucket|count)$", "", name) for name in named} <= exported, file


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    panels = json.loads((OPERATE / "grafana.json").read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert len({(place["x"], place["y"]) for place in places}) == len(places)


def make_certificate(directory: Path) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2"
    names = ["-subj", "/CN=box.example", "-addext", "subjectAltName=DNS:box.example"]
    subprocess.run([*command.split(), *names], cwd=directory, check=True, capture_output=True)


@contextmanager
def behind_nginx(directory: Path, *ports: int) -> Iterator[httpx2.Client]:
    """The example in front of two servers, with TLS, on a socket of its own; a client of it."""
    text = (OPERATE / "nginx.conf").read_text()
    text = text.replace("/etc/alpaca2/tls", str(directory))
    text = text.replace("listen 443", f"listen unix:{directory}/nginx.sock")
    make_certificate(directory)
    for name, port in zip(("8001", "8002"), ports, strict=True):
        text = text.replace(f"127.0.0.1:{name}", f"127.0.0.1:{port}")
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Where root is the only user, as in a box under QEMU, nothing can be given to another.
    user = "user root; " if os.getuid() == 0 else ""
    main = f"{user}daemon off; pid {directory}/pid; error_log stderr warn; events {{}}"
    file = directory / "main.conf"
    file.write_text(f"{main} http {{ access_log off; {temporary}\n{text}\n}}")
    command = ["nginx", "-p", str(directory), "-e", "stderr", "-c", str(file)]
    subprocess.run([*command, "-t"], check=True, capture_output=True, timeout=PATIENCE)
    nginx = subprocess.Popen(command)
    trusted = ssl.create_default_context(cafile=str(directory / "cert.pem"))
    transport = httpx2.HTTPTransport(uds=str(directory / "nginx.sock"), verify=trusted)
    base_url = "https://box.example"
    try:
        with httpx2.Client(transport=transport, base_url=base_url, timeout=PATIENCE) as client:
            while not _listens(directory / "nginx.sock"):
                assert nginx.poll() is None
            yield client
    finally:
        nginx.terminate()
        nginx.wait(PATIENCE)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


class Halting(Gate):
    """Waits before its twelfth call until it may go on: after a trial, a prompt and nine tokens."""

    calls = 0

    def run(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.calls == 12:
            self.shut()
        return super().run(*arguments)


@contextmanager
def halting(bundle: Path) -> Iterator[tuple[Serving, Gate]]:
    gates: list[Gate] = []

    def gate(session: Any) -> Gate:
        gates.append(Halting(session))
        return gates[0]

    with ready(make_service(bundle, gate)) as server:
        yield server, gates[0]
        gates[0].open.set()


@needs_nginx
def test_tokens_come_through_nginx_as_they_are_made(bundles: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        server, gate = stack.enter_context(halting(bundles / "talk-int4"))
        http = stack.enter_context(behind_nginx(tmp_path, server.port, 1))
        reply = stack.enter_context(http.stream("POST", "/v1/chat/completions", json=STREAM))
        lines = (line for line in reply.iter_lines() if line)
        assert gate.knocked.wait(PATIENCE), "from here on the model waits"
        early = [next(lines) for _ in range(9)]
        gate.open.set()
        late = list(lines)
        assert late.pop() == "data: [DONE]"
        events = [json.loads(line.removeprefix("data: ")) for line in (*early, *late)]
        texts = [event["choices"][0]["delta"]["content"] for event in events]
        assert "".join(texts) == BOX[1]


@needs_nginx
def test_an_upgrade_loses_no_request(bundles: Path, tmp_path: Path) -> None:
    """The old server drains: what it began is completed, and the new one takes all else."""
    with ExitStack() as stack:
        new = stack.enter_context(ready(make_service(bundles / "talk-int4")))
        old, gate = stack.enter_context(halting(bundles / "talk-int4"))
        http = stack.enter_context(behind_nginx(tmp_path, old.port, old.port))
        reply = stack.enter_context(http.stream("POST", "/v1/chat/completions", json=STREAM))
        begun = reply.iter_lines()
        next(begun)
        other = tmp_path / "other"
        other.mkdir()
        both = stack.enter_context(behind_nginx(other, old.port, new.port))
        old.server.should_exit = True
        eventually(new, lambda: old.service.state == "draining")
        replies = [both.post("/v1/chat/completions", json=PLAIN) for _ in range(40)]
        assert {reply.status_code for reply in replies} == {200}
        assert {r.json()["choices"][0]["message"]["content"] for r in replies} == {CAPITAL[1]}
        gate.open.set()
        assert list(begun)[-2] == "data: [DONE]"


@needs_nginx
def test_a_server_that_is_full_is_passed_over(bundles: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        full, free = (
            stack.enter_context(ready(make_service(bundles / "talk-int4"))) for _ in range(2)
        )
        http = stack.enter_context(behind_nginx(tmp_path, full.port, free.port))
        with full.service.admitted(full.service.settings.max_requests):
            replies = [http.post("/v1/chat/completions", json=PLAIN) for _ in range(6)]
        assert {reply.status_code for reply in replies} == {200}
        assert full.metric("requests_rejected_total", reason="server_overloaded") > 0


@needs_nginx
def test_without_a_server_nginx_says_when_to_try_again(tmp_path: Path) -> None:
    with behind_nginx(tmp_path, 1, 1) as http:
        reply = http.post("/v1/chat/completions", json=PLAIN)
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "5"
        assert reply.json()["error"]["code"] == "not_ready"
        assert http.get("/metrics").status_code == 404


@needs_nginx
def test_nginx_refuses_names_that_are_not_the_box_s(tmp_path: Path) -> None:
    with behind_nginx(tmp_path, 1, 1) as http, pytest.raises(httpx2.TransportError):
        http.get("/", headers={"Host": "evil.example"})
