"""HTTP clients of a server; they keep connections from one request to the next.

A server may close a kept connection whenever it wants, also while the next request is on its way.
Such a request is sent once more, on a connection of its own (RFC 9112, 9.3.1). That is safe: asking
for text changes nothing in a server.
"""

from collections.abc import Sequence

import httpx2

from toolchain.remote.address import Address

__all__ = ["async_client", "client"]

KEPT = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
SINGLE = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
# Of httpx2: when a connection is opened, and what its error says of one that ended without a byte.
OPENED = "connection.connect_tcp.started"
NO_ANSWER = "Server disconnected without sending a response."


def client(address: Address) -> httpx2.Client:
    """Opens connections as they are needed; none goes through a proxy."""
    return httpx2.Client(
        base_url=address.root,
        headers=address.headers,
        timeout=address.timeout,
        trust_env=False,
        transport=_Transport(),
    )


def async_client(address: Address) -> httpx2.AsyncClient:
    """The same for an event loop."""
    return httpx2.AsyncClient(
        base_url=address.root,
        headers=address.headers,
        timeout=address.timeout,
        trust_env=False,
        transport=_AsyncTransport(),
    )


class _Transport(httpx2.BaseTransport):
    """Sends a request once more whose kept connection had been closed."""

    def __init__(self) -> None:
        self._kept = httpx2.HTTPTransport(trust_env=False, limits=KEPT)
        self._single = httpx2.HTTPTransport(trust_env=False, limits=SINGLE)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        events: list[str] = []
        request.extensions["trace"] = lambda event, _: events.append(event)
        try:
            return self._kept.handle_request(request)
        except (httpx2.ReadError, httpx2.RemoteProtocolError) as error:
            if not _was_closed(events, error):
                raise
        return self._single.handle_request(request)

    def close(self) -> None:
        self._kept.close()
        self._single.close()


class _AsyncTransport(httpx2.AsyncBaseTransport):
    """The same for an event loop."""

    def __init__(self) -> None:
        self._kept = httpx2.AsyncHTTPTransport(trust_env=False, limits=KEPT)
        self._single = httpx2.AsyncHTTPTransport(trust_env=False, limits=SINGLE)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        events: list[str] = []

        async def trace(event: str, _: object) -> None:
            events.append(event)

        request.extensions["trace"] = trace
        try:
            return await self._kept.handle_async_request(request)
        except (httpx2.ReadError, httpx2.RemoteProtocolError) as error:
            if not _was_closed(events, error):
                raise
        return await self._single.handle_async_request(request)

    async def aclose(self) -> None:
        await self._kept.aclose()
        await self._single.aclose()


def _was_closed(events: Sequence[str], error: httpx2.TransportError) -> bool:
    """Whether a kept connection ended before an answer began."""
    ended = isinstance(error, httpx2.ReadError) or str(error) == NO_ANSWER
    return ended and OPENED not in events
