"""Slow and silent clients are let go at a deadline; whoever is good beside them notices nothing.

The tests never look at a clock: a socket that is read to its end was closed by the server.
"""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import pytest

from runtime.server.connection import Connection
from runtime.sessions import Session
from tests.serving import PATIENCE, Gate, Serving, eventually, is_idle, make_service, ready

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GOOD = {"prompt": "An edge", "max_tokens": 20, "ignore_eos": True}


@pytest.fixture(scope="module")
def hasty(bundles: Path) -> Iterator[Serving]:
    service = make_service(
        bundles / "talk-int4", receive_timeout=0.3, send_timeout=0.3, keep_alive=1
    )
    with ready(service) as server:
        yield server


def connect(server: Serving) -> socket.socket:
    connection = socket.create_connection((server.host, server.port))
    connection.settimeout(PATIENCE)
    return connection


def to_the_end(connection: socket.socket) -> bytes:
    """All that the server says until it closes the connection."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def ports(server: Serving) -> set[int]:
    """Of the clients that are connected."""
    connections = list(server.server.server_state.connections)
    peers = [each.client for each in connections if isinstance(each, Connection)]
    return {peer[1] for peer in peers if peer is not None}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", b""),
        (b"GET /hea", b""),
        (HEAD, b""),
        (HEAD + b"Content-Length: 100\r\n\r\n", b"HTTP/1.1 408"),
        (HEAD + b'Content-Length: 100\r\n\r\n{"pro', b"HTTP/1.1 408"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", b"HTTP/1.1 408"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he", b"HTTP/1.1 200"),
    ],
    ids=["nothing", "a line", "headers", "no body", "half a body", "a chunk", "a second one"],
)
def test_half_a_request_is_closed_at_the_deadline(sent: bytes, said: bytes, hasty: Serving) -> None:
    with connect(hasty) as connection:
        connection.sendall(sent)
        answer = to_the_end(connection)
    assert answer.startswith(said)
    assert bool(answer) == bool(said)
    if b"408" in said:
        assert b'"code": "request_timeout"' in answer


def test_a_trickle_does_not_move_the_deadline(hasty: Serving) -> None:
    """A byte at a time, on a connection that was idle before, never makes a request."""
    closed = Event()

    def trickle(connection: socket.socket) -> None:
        try:
            while not closed.wait(0.02):
                connection.sendall(b"a")
        except OSError:
            pass

    for start in (b"GET /", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /"):
        closed.clear()
        with connect(hasty) as connection:
            connection.sendall(start)
            thread = Thread(target=trickle, args=(connection,))
            thread.start()
            to_the_end(connection)
            closed.set()
            thread.join()


def test_an_answer_that_takes_longer_than_the_deadline_is_whole(hasty: Serving) -> None:
    """The deadline is for what clients send; a stream over many of them goes on."""
    with hasty.http() as http:
        for _ in range(3):
            reply = http.post("/v1/completions", json=GOOD | {"max_tokens": 300, "stream": True})
            assert reply.text.endswith("data: [DONE]\n\n")
            assert http.get("/health").status_code == 200


def test_a_good_client_is_served_beside_hundreds_of_half_open_sockets(hasty: Serving) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(hasty)) for _ in range(200)]
        for i, connection in enumerate(sockets):
            connection.sendall(HEAD[: i % len(HEAD)])
        with hasty.http() as http:
            assert http.get("/health").status_code == 200
            reply = http.post("/v1/completions", json=GOOD)
            assert reply.json()["usage"]["completion_tokens"] == 20
        with ThreadPoolExecutor(8) as pool:
            assert not any(pool.map(to_the_end, sockets))


def test_beyond_the_most_connections_those_go_that_have_waited_longest(
    bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a thousand silent sockets shut nobody out; who is being answered stays."""
    gates: list[Gate] = []

    def wrap(session: Session) -> Session:
        gates.append(Gate(session))
        return gates[0]

    service = make_service(bundles / "talk-int4", wrap, max_connections=4)
    monkeypatch.setattr(Connection, "grace", -1.0)  # as if all had waited for long
    with ready(service) as server, ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        gates[0].shut()
        http = stack.enter_context(server.http())
        answered = pool.submit(http.post, "/v1/completions", json=GOOD)
        assert gates[0].knocked.wait(PATIENCE)
        silent = [stack.enter_context(connect(server)) for _ in range(6)]
        assert [to_the_end(each) for each in silent[:3]] == [b""] * 3
        last = silent[-1]
        last.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert to_the_end(last).startswith(b"HTTP/1.1 200")
        gates[0].open.set()
        assert answered.result(PATIENCE).status_code == 200


def test_a_burst_of_connections_goes_to_twice_as_many(
    bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose request has arrived and was not read yet is not taken for a silent one."""
    monkeypatch.setattr(Connection, "grace", 1000.0)
    service = make_service(bundles / "talk-int4", max_connections=3)
    with ready(service) as server, ExitStack() as stack:
        eventually(server, lambda: len(ports(server)) == 1)
        sockets = [stack.enter_context(connect(server)) for _ in range(7)]
        assert to_the_end(sockets[6]) == b""
        for each in sockets[:6]:
            each.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert to_the_end(each).startswith(b"HTTP/1.1 200")


def test_a_server_that_is_late_takes_no_request_that_it_did_not_read_for_a_silent_one(
    bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "grace", -1.0)  # as if all had waited for long
    service = make_service(bundles / "talk-int4", max_connections=2)
    with ready(service) as server, ExitStack() as stack:
        eventually(server, lambda: len(ports(server)) == 1)
        is_late, go_on = Event(), Event()
        stack.callback(go_on.set)

        def hold() -> None:
            is_late.set()
            go_on.wait(PATIENCE)

        server.server.servers[0].get_loop().call_soon_threadsafe(hold)
        assert is_late.wait(PATIENCE)
        sockets = [stack.enter_context(connect(server)) for _ in range(4)]
        for each in sockets:
            each.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        go_on.set()
        for each in sockets:
            assert to_the_end(each).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_read_is_let_go_and_its_place_is_free(bundles: Path) -> None:
    service = make_service(bundles / "talk-int4", send_timeout=0.3, keep_alive=1000)
    with ready(service, send_buffer=4096) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect((server.host, server.port))
        body = b'{"prompt": "An", "max_tokens": 99, "ignore_eos": true, "stream": true, "n": 9, '
        body += b'"logprobs": 9}'
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        with server.http() as http:
            assert http.post("/v1/completions", json=GOOD).status_code == 200
        eventually(server, lambda: is_idle(server))
        port = connection.getsockname()[1]
        eventually(server, lambda: port not in ports(server))
        connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 70_000,
    ],
    ids=["tls", "version", "nul", "length", "header"],
)
def test_what_is_no_http_is_answered_with_400(data: bytes, hasty: Serving) -> None:
    with connect(hasty) as connection:
        connection.sendall(data)
        assert to_the_end(connection).startswith(b"HTTP/1.1 4")


def test_no_token_waits_for_the_receipt_of_the_one_before(hasty: Serving) -> None:
    """Nagle's algorithm and delayed receipts would add 40 ms to the second token."""
    with connect(hasty) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1)
        options = [
            each.transport.get_extra_info("socket").getsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY
            )
            for each in hasty.server.server_state.connections
            if isinstance(each, Connection)
        ]
    assert options
    assert all(options)


def test_pipelined_requests_are_answered_in_turn(hasty: Serving) -> None:
    one = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
    with connect(hasty) as connection:
        connection.sendall(one + b"\r\n" + one + b"Connection: close\r\n\r\n")
        assert to_the_end(connection).count(b"HTTP/1.1 200") == 2
