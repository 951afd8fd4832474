"""A client that leaves frees what it held, wherever its request was.

`DISCONNECTS=500 pytest tests/runtime/server/test_disconnects.py` tries more moments.
"""

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtime.sessions import Session
from tests.serving import Gate, Serving, eventually, is_idle, make_service, ready

DISCONNECTS = int(os.environ.get("DISCONNECTS", "60"))
LONG = {"prompt": "An edge", "max_tokens": 30, "ignore_eos": True, "temperature": 0}
RESET = struct.pack("ii", 1, 0)  # closing sends RST at once


@pytest.fixture
def gated(bundles: Path) -> Iterator[tuple[Serving, Gate]]:
    gates: list[Gate] = []

    def wrap(session: Session) -> Session:
        gates.append(Gate(session))
        return gates[0]

    with ready(make_service(bundles / "small-fp32", wrap)) as server:
        yield server, gates[0]
        gates[0].open.set()


def sent(server: Serving, body: dict[str, Any]) -> socket.socket:
    """A connection with a request on its way."""
    data = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += "Content-Type: application/json\r\n"
    connection = socket.create_connection((server.host, server.port))
    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def read_until(connection: socket.socket, text: bytes) -> None:
    data = b""
    while text not in data:
        part = connection.recv(1 << 16)
        assert part
        data += part


def cancelled(server: Serving) -> float:
    return sum(
        server.metric("requests_cancelled_total", phase=phase)
        for phase in ("queue", "prefill", "decode")
    )


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_leaves_during_its_prompt_costs_the_call_that_runs(
    stream: bool, gated: tuple[Serving, Gate]
) -> None:
    server, gate = gated
    gate.shut()
    connection = sent(server, LONG | {"stream": stream})
    assert gate.knocked.wait(60)
    connection.close()
    eventually(server, lambda: cancelled(server) == 1)
    calls = server.service.model().engines.each[0].scheduler.counters.prompt_parts
    gate.open.set()
    eventually(server, lambda: is_idle(server))
    counters = server.service.model().engines.each[0].scheduler.counters
    assert counters.prompt_parts <= calls + 1
    assert counters.decode_calls + counters.verify_calls == 0
    assert server.metric("requests_cancelled_total", phase="prefill") == 1


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_leaves_while_it_waits_is_never_begun(
    stream: bool, gated: tuple[Serving, Gate]
) -> None:
    server, gate = gated
    gate.shut()
    first = sent(server, LONG | {"max_tokens": 1})
    assert gate.knocked.wait(60)
    waiting = sent(server, LONG | {"stream": stream})
    eventually(server, lambda: server.service.model().engines.num_open == 2)
    waiting.close()
    eventually(server, lambda: cancelled(server) == 1)
    gate.open.set()
    read_until(first, b" 200 OK")
    first.close()
    eventually(server, lambda: is_idle(server))
    assert server.service.model().engines.each[0].scheduler.counters.decode_calls == 0
    assert server.metric("requests_cancelled_total", phase="queue") == 1


def test_one_that_left_leaves_its_room_at_once(bundles: Path) -> None:
    """Also while the call runs that was made for it."""
    gates: list[Gate] = []

    def wrap(session: Session) -> Session:
        gates.append(Gate(session))
        return gates[0]

    with ready(make_service(bundles / "small-fp32", wrap, max_requests=1)) as server:
        gates[0].shut()
        first = sent(server, LONG)
        assert gates[0].knocked.wait(60)
        first.close()
        eventually(server, lambda: server.metric("queue_depth") == 0)
        second = sent(server, LONG)
        eventually(server, lambda: server.service.model().engines.num_open == 2)
        gates[0].open.set()
        read_until(second, b" 200 OK")
        second.close()


def test_one_that_leaves_in_the_middle_of_its_answer_costs_one_call_more(
    gated: tuple[Serving, Gate],
) -> None:
    server, gate = gated
    connection = sent(server, LONG | {"stream": True})
    read_until(connection, b"data: {")
    gate.shut()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()
    eventually(server, lambda: cancelled(server) == 1 or is_idle(server))
    counters = server.service.model().engines.each[0].scheduler.counters
    calls = counters.decode_calls + counters.verify_calls
    gate.open.set()
    eventually(server, lambda: is_idle(server))
    assert counters.decode_calls + counters.verify_calls <= calls + 1


def test_leaving_at_any_moment_leaks_nothing(bundles: Path) -> None:
    rng = Random(0)
    with ready(make_service(bundles / "small-fp32")) as server:
        for _ in range(DISCONNECTS):
            body = LONG | {"stream": rng.random() < 0.7, "n": rng.choice([1, 1, 3])}
            connection = sent(server, body | {"prompt": [1, *rng.choices(range(5, 9), k=9)]})
            if rng.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            left = rng.choice([0, 0, 1, 500, 3000])
            while left > 0:
                got = len(connection.recv(left))
                left -= got or left
            connection.close()
        eventually(server, lambda: is_idle(server))
        with server.http() as http:
            reply = http.post("/v1/completions", json=LONG)
            assert reply.json()["usage"]["completion_tokens"] == 30
        assert cancelled(server) > 0
        assert server.metric("http_responses_total", route="/v1/completions", status="499") > 0
        # That of the last answer ends a moment after it.
        eventually(server, lambda: not server.server.server_state.tasks)
