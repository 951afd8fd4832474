"""Claims about kept connections, with a server of sockets that closes them at the worst moment."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import parse_headers
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Lock, Thread

import pytest

from toolchain.errors import RemoteError
from toolchain.load.drive import Client, drive
from toolchain.load.pattern import Load
from toolchain.load.prompts import IdPrompts
from toolchain.remote.address import Address
from toolchain.remote.server import open_server

EVENTS = b'data: {"choices": [{"index": 0, "text": "a"}]}\n\n' * 2
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}\n\n'
STREAM = EVENTS + USAGE + b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"


def never(seconds: float) -> None:
    pytest.fail(f"waits {seconds} s for a server that is not busy")


@dataclass
class Closing:
    """A server that answers the first request of a connection, and ends it when the next one comes.

    end: what a connection does with its second request.
    answering: connections that answer their first request; those after them end at once.
    seen: (connection, request), in the order in which requests came.
    """

    end: Callable[["Handler"], None]
    answer: bytes = b"{}"
    answering: int = 100
    seen: list[tuple[int, int]] = field(default_factory=list)
    connections: int = 0
    lock: Lock = field(default_factory=Lock)


class Handler(StreamRequestHandler):
    closing: Closing

    def handle(self) -> None:
        with self.closing.lock:
            self.closing.connections += 1
            connection = self.closing.connections
        for request in range(2):
            if not self.request.recv(1, socket.MSG_PEEK):
                return
            self.closing.seen.append((connection, request))
            if request == 1 or connection > self.closing.answering:
                self.closing.end(self)
                return
            self.read_request()
            self.wfile.write(HEAD % len(self.closing.answer) + self.closing.answer)

    def read_request(self) -> None:
        self.rfile.readline()
        self.rfile.read(int(parse_headers(self.rfile).get("Content-Length", 0)))


def read_and_close(handler: Handler) -> None:
    """The client sees the end of the connection."""
    handler.read_request()


def reset(handler: Handler) -> None:
    """The client is told that nobody reads what it sends."""
    handler.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(handler.request.detach())


def babble(handler: Handler) -> None:
    """The client gets an answer that is none."""
    handler.read_request()
    handler.wfile.write(b"what?\r\n\r\n")


@contextmanager
def closing_server(closing: Closing) -> Iterator[Address]:
    handler = type("Bound", (Handler,), {"closing": closing})
    with ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Address(root=f"http://127.0.0.1:{server.server_address[1]}", timeout=20)
        finally:
            server.shutdown()
            thread.join()


ENDS = pytest.mark.parametrize("end", [read_and_close, reset])


@ENDS
def test_a_request_whose_kept_connection_ends_is_sent_once_more(
    end: Callable[[Handler], None],
) -> None:
    closing = Closing(end)
    with closing_server(closing) as address, open_server(address, never) as server:
        for _ in range(4):
            assert server.post("/v1/completions", {"prompt": "text"}) == {}
    assert closing.seen == [(1, 0), (1, 1), (2, 0), (3, 0), (3, 1), (4, 0)]  # 2 and 4: not kept


@ENDS
def test_a_server_that_always_closes_is_asked_twice_and_then_disconnected(
    end: Callable[[Handler], None],
) -> None:
    closing = Closing(end, answering=1)
    with closing_server(closing) as address, open_server(address, never) as server:
        assert server.get("/v1/models") == {}
        with pytest.raises(RemoteError, match="disconnected"):
            server.get("/v1/models")
        assert closing.seen == [(1, 0), (1, 1), (2, 0)]
        with pytest.raises(RemoteError, match="disconnected"):
            server.get("/v1/models")  # on a new connection: no second try
        assert closing.seen[3:] == [(3, 0)]


def test_what_answers_badly_is_not_asked_again() -> None:
    closing = Closing(babble)
    with closing_server(closing) as address, open_server(address, never) as server:
        server.get("/v1/models")
        with pytest.raises(RemoteError, match="disconnected"):
            server.get("/v1/models")
    assert closing.seen == [(1, 0), (1, 1)]


@ENDS
@pytest.mark.parametrize("clients", [1, 3])
def test_a_load_counts_no_failure_where_kept_connections_end(
    end: Callable[[Handler], None], clients: int
) -> None:
    closing = Closing(end, answer=STREAM)
    load = Load(clients=clients, input_tokens=4, output_tokens=2, num_requests=9, warm_up=3)
    assert _failures(closing, load) == []
    assert any(request == 1 for _, request in closing.seen)


@ENDS
def test_a_load_counts_what_fails_twice(end: Callable[[Handler], None]) -> None:
    closing = Closing(end, answer=STREAM, answering=1)
    load = Load(clients=1, input_tokens=4, output_tokens=2, num_requests=3, warm_up=1)
    assert _failures(closing, load) == ["disconnected"] * 3


def _failures(closing: Closing, load: Load) -> list[str]:
    with closing_server(closing) as address:
        asking = Client(address=address, model="m", prompts=IdPrompts([5]), chat=False, seed=0)
        driven = asyncio.run(drive(asking, load))
    assert len(driven.exchanges) == load.num_requests
    return [each.failure.kind for each in driven.exchanges if each.failure]
