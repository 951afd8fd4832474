"""Why a request got no answer: a kind to count by, and what the server said."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from toolchain.errors import RemoteError
from toolchain.remote.address import KEY_VARIABLE

__all__ = ["Failure", "of_error_event", "of_exception", "of_reply", "remote_error"]

MAX_DETAIL = 300  # characters
# The first that fits an exception counts.
KINDS: tuple[tuple[type[Exception], str], ...] = (
    (httpx2.ConnectTimeout, "no_connection"),
    (httpx2.ConnectError, "no_connection"),
    (httpx2.TimeoutException, "timed_out"),
    (httpx2.NetworkError, "disconnected"),
    (httpx2.RemoteProtocolError, "disconnected"),
)
NEXT_STEPS = {
    "no_connection": "start the server, or check the address",
    "timed_out": "give --timeout more seconds, or ask for less at once",
    "http_401": f"set {KEY_VARIABLE}, or give --api-key-file",
    "http_403": f"set {KEY_VARIABLE}, or give --api-key-file",
    "http_404": "check the address and the name of the model",
    "http_503": "wait until the server is ready, or ask for less at once",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One request that got no answer.

    kind: no_connection, timed_out, disconnected, http_STATUS, stream_error, bad_reply, no_usage or
        no_tokens.
    retry_after: seconds after which the server wants to be asked again.
    """

    kind: str
    detail: str
    retry_after: float | None = None


def of_exception(error: httpx2.HTTPError) -> Failure:
    """Of what the HTTP client raised."""
    kind = next((kind for cls, kind in KINDS if isinstance(error, cls)), "bad_reply")
    return Failure(kind, (str(error) or type(error).__name__)[:MAX_DETAIL])


def of_reply(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Of an answer that is none."""
    text = body.decode("utf-8", "replace")
    try:
        detail = _message(json.loads(text))
    except (ValueError, RecursionError):
        detail = " ".join(text.split())
    wanted = headers.get("retry-after", "")
    seconds = float(wanted) if wanted.isascii() and wanted.isdigit() else None
    return Failure(f"http_{status}", detail[:MAX_DETAIL], seconds)


def of_error_event(document: Mapping[str, Any]) -> Failure:
    """Of an event of a stream that says what went wrong."""
    return Failure("stream_error", _message(document)[:MAX_DETAIL])


def _message(document: Any) -> str:
    """What an error says in the forms that servers have for it."""
    error = document.get("error", document) if isinstance(document, dict) else document
    if not isinstance(error, dict):
        return str(error)
    return str(error.get("message") or error.get("detail") or error)


def remote_error(root: str, failure: Failure) -> RemoteError:
    """A failure that ends the command."""
    return RemoteError(
        f"{root}: {failure.kind.replace('_', ' ')}",
        got=failure.detail,
        next_step=NEXT_STEPS.get(failure.kind),
    )
