"""What a proxy of Ray Serve says of itself, in the words of our errors.

A refusal of a proxy is plain text: its queue is full, no replica is there, an address has nothing.
An answer whose replica is lost ends in the middle. RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names
`middlewares`. Knows nothing of Ray.
"""

import json
from collections.abc import Callable
from uuid import uuid4

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.server.errors import HttpError, error_body, headers_of, status_of
from runtime.server.stream import DONE, START

__all__ = ["ProxyErrors", "middlewares"]


def _busy() -> HttpError:
    return HttpError("too many requests are waiting", next_step="try again later", code="busy")


def _lost() -> HttpError:
    return HttpError(
        "the replica that had the request is lost", next_step="try again", code="not_ready"
    )


# What the status of a proxy means.
REFUSALS: dict[int, Callable[[], HttpError]] = {
    404: lambda: HttpError("there is nothing at this address", code="no_such_route"),
    408: lambda: HttpError(
        "the request took longer than the cluster allows",
        next_step="ask for less",
        code="deadline_exceeded",
    ),
    429: _busy,
    503: _busy,
}


def middlewares() -> list[Middleware]:
    """What Ray Serve puts around its proxies."""
    return [Middleware(ProxyErrors)]


class ProxyErrors:
    """An ASGI application around that of a proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and puts what is not ours into our words."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reply = _Reply(send)
        await self._app(scope, receive, reply.send)
        if reply.is_complete:
            return
        error = _lost() if reply.refusal is None else reply.refusal()
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", uuid4().hex.encode()).decode("latin-1")
        body = error_body(error, request_id)
        if not reply.has_begun:
            status = status_of(error)
            whole = JSONResponse(body, status_code=status, headers=headers_of(error))
            await whole(scope, receive, send)
        elif reply.is_stream:
            event = f"data: {json.dumps(body)}\n\n".encode()
            event = event.removeprefix(b"" if reply.between_events else START)
            await send({"type": "http.response.body", "body": event + DONE})


class _Reply:
    """What has been sent of a reply; a refusal of the proxy's own is kept back.

    Attributes:
        refusal: of REFUSALS.
        between_events: whether the next byte of a stream begins an event.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.refusal: Callable[[], HttpError] | None = None
        self.has_begun = self.is_complete = self.is_stream = False
        self.between_events = True

    async def send(self, message: Message) -> None:
        """See ASGI."""
        if message["type"] == "http.response.start":
            kind = dict(message.get("headers", ())).get(b"content-type", b"")
            if kind.startswith(b"text/plain") and message["status"] in REFUSALS:
                self.refusal = REFUSALS[message["status"]]
                return
            self.has_begun, self.is_stream = True, kind.startswith(b"text/event-stream")
        if self.refusal is not None:
            return
        if message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)
            body = message.get("body", b"")
            self.between_events = body.endswith(b"\n\n") if body else self.between_events
        await self._send(message)
