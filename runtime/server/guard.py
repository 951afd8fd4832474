"""What every request passes before a route sees it: Host, key, the size of its body; then the log.

Routes that need no key are the few in OPEN; whatever is added needs one.
"""

import logging
import re
from collections.abc import Iterable
from ipaddress import ip_address
from socket import gethostname
from uuid import uuid4

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.server.errors import ClientGoneError, HttpError, error_body, headers_of, status_of
from runtime.server.keys import Keys
from runtime.server.metrics import Metrics
from runtime.server.page import PATHS as PAGE
from runtime.timing import now

__all__ = ["OPEN", "Guard"]

OPEN = frozenset(("/docs", "/health", "/health/live", "/health/ready")) | PAGE
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
LINGER = 8  # times max_body_bytes that are thrown away before a refusal, so that it is read
log = logging.getLogger("runtime.server.access")


class Guard:
    """An ASGI application around another.

    Args:
        app: the routes.
        keys: who may ask.
        allowed_hosts: names for this computer besides its own; "*" for any.
        max_body_bytes: of a request.
        metrics: where responses are counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        allowed_hosts: Iterable[str],
        max_body_bytes: int,
        metrics: Metrics,
    ) -> None:
        self._app, self._keys, self._metrics = app, keys, metrics
        self._hosts = {"localhost", gethostname().lower(), *map(str.lower, allowed_hosts)}
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid4().hex
        scope["state"] = {**scope.get("state", {}), "request_id": request_id, "arrived": now()}
        seen = _Seen(send, request_id)
        try:
            self._check(scope, headers)
            body = await self._read(scope, headers, receive)
            await self._app(scope, _replay(body, receive), seen.send)
        except HttpError as error:
            await _refuse(error, request_id)(scope, receive, seen.send)
            self._metrics.rejected.labels(error.code).inc()
        except ClientGoneError:
            seen.status = seen.status or 499
        except Exception as error:
            log.error("an error of the server", exc_info=error, extra={"fields": scope["state"]})
            if not seen.complete:
                raise
        finally:
            self._tell(scope, seen)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if "*" not in self._hosts and not self._is_ours(headers.get(b"host", b"")):
            raise HttpError(
                "this is not the host that the request is for",
                next_step="name it in allowed_hosts if it is",
                code="invalid_host",
            )
        if scope["path"] not in OPEN and not self._keys.admit(headers.get(b"authorization")):
            raise HttpError(
                "no valid API key",
                next_step="send the header Authorization: Bearer KEY",
                code="invalid_api_key",
            )

    def _is_ours(self, host: bytes) -> bool:
        """Whether a Host header names this computer: no page elsewhere can rebind an address."""
        name = host.decode("latin-1").lower()
        name = re.sub(r":\d*$", "", name)
        try:
            ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name in self._hosts
        return True

    async def _read(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body.

        Raises:
            HttpError: it is too large.
            ClientGoneError: the client left before it was here.
        """
        parts, size, more = [], 0, scope["method"] not in ("GET", "HEAD")
        declared = headers.get(b"content-length", b"0")
        if len(declared) > 15 or int(declared) > LINGER * self._max_body_bytes:
            raise self._too_large()
        while more and size <= LINGER * self._max_body_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size <= self._max_body_bytes:
                parts.append(message.get("body", b""))
        if size > self._max_body_bytes:
            raise self._too_large()
        return b"".join(parts)

    def _too_large(self) -> HttpError:
        return HttpError(
            "the request is too large",
            allowed=f"up to {self._max_body_bytes} bytes",
            code="request_too_large",
        )

    def _tell(self, scope: Scope, seen: "_Seen") -> None:
        route = getattr(scope.get("route"), "path", "other")
        state = scope["state"]
        status = 499 if "gone" in state else seen.status
        self._metrics.responses.labels(route, str(status)).inc()
        fields = {
            "request_id": state["request_id"],
            "client": (scope.get("client") or ("",))[0],
            "method": scope["method"],
            "path": scope["path"][:200],
            "status": status,
            "duration_ms": round(1e3 * (now() - state["arrived"]), 1),
            **state.get("answered", {}),
        }
        log.info("%s %s", fields["method"], route, extra={"fields": fields})


class _Seen:
    """Notes the status of a response on its way, and gives it the id of its request."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.status = 0
        self.complete = False
        self._send, self._request_id = send, request_id.encode()

    async def send(self, message: Message) -> None:
        """See ASGI."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [(b"x-request-id", self._request_id), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body at once, and then what the connection says."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed


def _refuse(error: HttpError, request_id: str) -> ASGIApp:
    return JSONResponse(
        error_body(error, request_id), status_code=status_of(error), headers=headers_of(error)
    )
