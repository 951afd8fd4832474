"""What systemd is told."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.server.notify import Pulse, notify
from tests.serving import PATIENCE, Gate, eventually, make_service, ready

REQUEST = {"prompt": "An edge", "max_tokens": 8, "temperature": 0}


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def test_systemd_is_told_of_the_beginning_the_life_and_the_end(
    bundles: Path, told: socket.socket
) -> None:
    said: list[str] = []

    def until(word: str) -> None:
        while not said or word not in said[-1]:
            said.append(told.recv(4096).decode())

    with ready(make_service(bundles / "talk-int4")) as server:
        until("READY=1")
        until("WATCHDOG=1")
        server.service.drain()
        until("STOPPING=1")
    stages = [each for each in said if each != "WATCHDOG=1"]  # a sign of life may come first
    assert "STATUS=" in stages[0], "how far loading is, or that it is done"
    assert sum("READY=1" in each for each in said) == 1


def test_an_end_that_comes_at_once_is_told_too(bundles: Path, told: socket.socket) -> None:
    with ready(make_service(bundles / "talk-int4")):
        pass
    while "STOPPING=1" not in told.recv(4096).decode():
        pass


def test_nothing_is_told_where_there_is_no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


def test_an_abstract_address_is_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(f"\0{tmp_path.name}-notify")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path.name}-notify")
        notify("READY=1", "STATUS=x")
        assert listener.recv(100) == b"READY=1\nSTATUS=x"


def test_the_pulse_stops_while_a_call_hangs_and_comes_back_after_it(bundles: Path) -> None:
    gates: list[Gate] = []

    def gate(session: object) -> Gate:
        gates.append(Gate(session))  # type: ignore[arg-type]
        return gates[0]

    with (
        ready(make_service(bundles / "talk-int4", gate, ping_interval=0.01)) as server,
        server.http() as http,
    ):
        pulse = Pulse(server.service)
        assert pulse.beats()
        assert pulse.beats(), "idle is well"
        gates[0].shut()
        with http.stream("POST", "/v1/completions", json=REQUEST | {"stream": True}):
            assert gates[0].knocked.wait(PATIENCE)
            pulse.beats()
            assert not pulse.beats()
            gates[0].open.set()
        eventually(server, pulse.beats)
