"""One connection: uvicorn's h11 protocol, with an end to the patience.

uvicorn waits for ever for the rest of a request, and for a client to take what it is sent.
A request must have arrived within receive_timeout; what is sent must be taken within send_timeout.
"""

import asyncio
import select
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection", "connection_class"]

GRACE = 1.0  # seconds in which a new connection may send its request whatever the crowd
TOO_SLOW = b'{"error": {"message": "the request took too long to arrive", '
TOO_SLOW += b'"type": "invalid_request_error", "param": null, "code": "request_timeout"}}'


class Connection(H11Protocol):
    """A connection with deadlines; `connection_class` sets them."""

    receive_timeout: ClassVar[float]
    send_timeout: ClassVar[float]
    max_connections: ClassVar[int]
    grace: ClassVar[float] = GRACE
    _receiving: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request; where too many are open, one that only waits is closed."""
        super().connection_made(transport)
        self._watch(begun=True)
        num_beyond = len(self.connections) - self.max_connections
        if num_beyond <= 0:
            return
        others = (each for each in self.connections if isinstance(each, Connection))
        waiting = {each: each.waits_since for each in others if each.waits_since is not None}
        first = min(waiting, key=waiting.__getitem__)
        # In a burst its request may be on its way, or here and not read yet.
        if waiting[first] > self.loop.time() - self.grace or first.has_unread:
            if num_beyond <= self.max_connections:
                return
            first = self
        self.connections.discard(first)  # or the next newcomer would choose it again
        first.transport.abort()

    @property
    def waits_since(self) -> float | None:
        """Since when its client has sent nothing to answer; None while an answer is made."""
        if self._receiving is not None:
            return self._receiving.when() - self.receive_timeout
        if self.timeout_keep_alive_task is not None:
            return self.timeout_keep_alive_task.when() - self.timeout_keep_alive
        return None

    @property
    def has_unread(self) -> bool:
        """Whether bytes of its client are here that the loop has had no time to read."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))

    def data_received(self, data: bytes) -> None:
        """Waits on, or for the next request."""
        super().data_received(data)
        self._watch(begun=True)

    def on_response_complete(self) -> None:
        """Waits for the next request from its first byte on; before that, keep_alive counts."""
        super().on_response_complete()
        self._watch(begun=bool(self.conn.trailing_data[0]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing more."""
        super().connection_lost(exc)
        for timer in (self._receiving, self._sending):
            if timer is not None:
                timer.cancel()
        self._receiving = self._sending = None

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        super().pause_writing()
        self._sending = self.loop.call_later(self.send_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        super().resume_writing()
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _watch(self, *, begun: bool) -> None:
        """Starts the clock when a request has begun, and stops it when it is complete."""
        incomplete = self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and begun
        if incomplete and self._receiving is None and not self.transport.is_closing():
            self._receiving = self.loop.call_later(self.receive_timeout, self._give_up)
        elif not incomplete and self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _give_up(self) -> None:
        """Closes the connection; says why to a client whose headers have arrived."""
        if self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.SEND_RESPONSE:
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(TOO_SLOW)).encode()),
                (b"connection", b"close"),
            ]
            events = (
                h11.Response(status_code=408, headers=headers, reason=b"Request Timeout"),
                h11.Data(data=TOO_SLOW),
                h11.EndOfMessage(),
            )
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def connection_class(
    *, receive_timeout: float, send_timeout: float, max_connections: int
) -> type[Connection]:
    """The class of the connections of a server; times in seconds."""
    limits: dict[str, Any] = {
        "receive_timeout": receive_timeout,
        "send_timeout": send_timeout,
        "max_connections": max_connections,
    }
    return type("LimitedConnection", (Connection,), limits)
