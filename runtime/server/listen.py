"""Listens: uvicorn with h11, deadlines on every connection, and an orderly end."""

import asyncio
import logging
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn

from runtime.errors import SessionError
from runtime.server.app import create_app
from runtime.server.connection import connection_class
from runtime.server.notify import telling_systemd
from runtime.server.service import Load, Service
from runtime.server.settings import Settings

__all__ = ["Server", "listening", "serve"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LAST_WORDS = 2  # seconds in which clients are told that the time for draining is over
SPARE_FILES = 64
log = logging.getLogger("runtime.server")


class Server(uvicorn.Server):
    """Drains at the first signal, stops at the second."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        connections = connection_class(
            receive_timeout=settings.receive_timeout,
            send_timeout=settings.send_timeout,
            max_connections=min(settings.max_connections, _most_files() // 2 - SPARE_FILES),
        )
        config = uvicorn.Config(
            create_app(service),
            host=settings.host,
            port=settings.port,
            http=connections,  # never httptools, which takes a header of any length
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive,
            timeout_graceful_shutdown=int(settings.drain_timeout) + LAST_WORDS + 1,
        )
        super().__init__(config)
        self._service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours, in the place of those of the command line; nothing is raised again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {each: signal.signal(each, self.handle_exit) for each in SIGNALS}
        try:
            yield
        finally:
            for each, handler in former.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until a signal comes, and tells systemd how it goes."""
        async with telling_systemd(self._service):
            await super().serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the answers that were taken, or after drain_timeout tells their clients why not."""
        self._service.drain()
        log.info("draining")
        late = asyncio.create_task(self._stop_late())
        await super().shutdown(sockets)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        await asyncio.to_thread(self._service.stop)

    async def _stop_late(self) -> None:
        await asyncio.sleep(self._service.settings.drain_timeout)
        log.warning("drain_timeout is over: answers are ended")
        await asyncio.to_thread(self._service.stop)


def serve(settings: Settings, load: Load) -> None:
    """Serves until a signal comes.

    Raises:
        UserError: the model cannot be loaded, or the address cannot be used.
    """
    servers: list[Server] = []

    def give_up() -> None:
        servers[0].should_exit = True

    service = Service(settings, load, give_up)
    servers.append(Server(service))
    with listening(settings) as sockets:
        host, port, *_ = sockets[0].getsockname()
        log.info("listening", extra={"fields": {"host": host, "port": port}})
        servers[0].run(sockets)
    if service.failure is not None:
        raise service.failure


@contextmanager
def listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """The sockets of all addresses of a host.

    Raises:
        SessionError: one of them cannot be used.
    """
    sockets: list[socket.socket] = []
    try:
        try:
            found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
            for family, _, __, ___, address in dict.fromkeys(found):
                each = socket.create_server(address[:2], family=family, backlog=2048)
                sockets.append(each)
                # Of all its connections: no token waits 40 ms for the receipt of the one before.
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise SessionError(
                f"cannot listen on {settings.host}, port {settings.port}",
                got=error.strerror or str(error),
                next_step="choose another --host or --port",
            ) from error
        yield sockets
    finally:
        for each in sockets:
            each.close()


def _most_files() -> int:
    """Files that this process may have open, raised as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 65536)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
