"""A real server in a thread, or in a process, for tests that talk to it over sockets."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2
from openai import OpenAI

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import load_bundle
from runtime.server.listen import Server, listening
from runtime.server.loading import served
from runtime.server.service import Service
from runtime.server.settings import Settings
from runtime.sessions import open_session
from runtime.sessions.base import Chunk, Logits, Session
from runtime.timing import now
from tests.paths import ROOT

PATIENCE = float(os.environ.get("PATIENCE", "60"))  # seconds; a test that waits so long fails
RUN = "from runtime.cli import main; main()"
Wrap = Callable[[Session], Session]


class Wrapped:
    """A session in front of another; a test overrides what it is about."""

    def __init__(self, session: Session) -> None:
        self.manifest, self.static_shapes = session.manifest, session.static_shapes
        self.hidden = session.hidden
        self.session = session

    def prepare(self, graph: Graph) -> None:
        self.session.prepare(graph)

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        return self.session.run(graph, chunks)

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        self.session.copy_rows(source, target, num_rows)

    def close(self) -> None:
        self.session.close()


class Gate(Wrapped):
    """A session whose calls wait while the gate is shut."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.open, self.knocked = Event(), Event()
        self.open.set()

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        if not self.open.is_set():
            self.knocked.set()
        assert self.open.wait(PATIENCE)
        return super().run(graph, chunks)

    def shut(self) -> None:
        self.knocked.clear()
        self.open.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server that runs: where, and what is inside."""

    host: str
    port: int
    service: Service
    server: Server

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def http(self, **options: Any) -> httpx2.Client:
        options = {"timeout": PATIENCE, "trust_env": False, "verify": False} | options
        return httpx2.Client(base_url=self.url, **options)

    def openai(self) -> OpenAI:
        return OpenAI(
            base_url=f"{self.url}/v1",
            api_key="none",
            max_retries=0,
            timeout=PATIENCE,
            http_client=httpx2.Client(trust_env=False),
        )

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(f"runtime_{name}", labels) or 0.0


def make_service(bundle: Path, wrap: Wrap = lambda session: session, **given: Any) -> Service:
    settings = Settings(**{"port": 0, **given})
    loaded = load_bundle(bundle)
    return Service(settings, lambda _: served(loaded, [wrap(open_session(loaded))], settings))


@contextmanager
def serving(service: Service, send_buffer: int | None = None) -> Iterator[Serving]:
    """A server from its first byte of listening to the end of its draining."""
    with listening(service.settings) as sockets:
        if send_buffer is not None:  # of the system, for each connection
            sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        server = Server(service)
        thread = Thread(target=server.run, args=(sockets,), name="server")
        thread.start()
        host, port, *_ = sockets[0].getsockname()
        try:
            yield Serving(host=host, port=port, service=service, server=server)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the server ends"


@contextmanager
def ready(service: Service, send_buffer: int | None = None) -> Iterator[Serving]:
    """A server whose model is loaded."""
    with serving(service, send_buffer) as running:
        with running.http() as client:
            while client.get("/health/ready").status_code != 200:
                assert service.failure is None
        yield running


def eventually(server: Serving, condition: Callable[[], bool]) -> None:
    """Waits, by asking the server for its health, until something holds."""
    until = now() + PATIENCE
    with server.http() as http:
        while not condition():
            assert now() < until
            assert http.get("/health/live").status_code == 200


def is_idle(server: Serving) -> bool:
    """Whether nothing is left of any request: no slot, no place, no answer."""
    engines = server.service.model().engines
    schedulers = [each.scheduler for each in engines.each]
    caches = [scheduler.engine.cache for scheduler in schedulers]
    return (
        engines.num_open == 0
        and all(scheduler.is_idle for scheduler in schedulers)
        and all(cache.num_free == len(cache.slots) for cache in caches)
        and server.metric("queue_depth") == 0
    )


@contextmanager
def serve_command(
    bundle: Path, *options: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`runtime serve` as a process, and its address."""
    arguments = [sys.executable, "-c", RUN, "serve", str(bundle), "--port", "0", *options]
    with subprocess.Popen(
        arguments,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                record = json.loads(line)
                if record["message"] == "listening":
                    url = f"http://{record['host']}:{record['port']}"
                if record["message"] == "ready":
                    yield process, url
                    break
        finally:
            process.kill()
            process.communicate()
