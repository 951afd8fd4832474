"""Errors as HTTP says them: the status, and the body that OpenAI's clients read.

{"error": {"message", "type", "param", "code"}}, and for a prompt that is too long also
n_prompt_tokens and n_ctx, as llama.cpp has them.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from runtime.errors import UserError, one_line

__all__ = [
    "ClientGoneError",
    "HttpError",
    "error_body",
    "first_problem",
    "headers_of",
    "status_of",
]

MAX_MESSAGE = 500  # characters: what a client sent may be long

# What is in neither table is the client's mistake: 400.
STATUS = {
    "invalid_api_key": 401,
    "no_such_route": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "request_too_large": 413,
    "device_lost": 500,
    "does_not_fit": 500,
    "internal_error": 500,
    "invalid_bundle": 500,
    "session_failed": 500,
    "unusable_logits": 500,
    "busy": 503,
    "deadline_exceeded": 503,
    "not_ready": 503,
}
TYPES = {401: "authentication_error", 500: "internal_error", 503: "unavailable_error"}
# What other servers call it.
NAMES = {
    "busy": "server_overloaded",
    "device_lost": "internal_error",
    "session_failed": "internal_error",
}
# By status: when to try again, or that it would be in vain.
HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    413: {"Connection": "close"},
    500: {"X-Should-Retry": "false"},  # the same request would fail the same way
    503: {"Retry-After": "1"},  # seconds; a slot is often free sooner
}


class HttpError(UserError):
    """A request that is refused before the engine sees it.

    Attributes:
        details: what the body has besides.
    """

    code = "invalid_request"
    details: Mapping[str, int] = MappingProxyType({})


class ClientGoneError(Exception):
    """The client has closed its connection; nobody reads an answer."""


def first_problem(problems: Sequence[Any]) -> HttpError:
    """What is wrong with an object of a client, of the problems that pydantic has found in it."""
    first = problems[0]
    path = list(map(str, first["loc"]))
    if first["type"] == "json_invalid":
        return HttpError(
            "the body is no JSON",
            got=first["ctx"]["error"],
            next_step="send application/json",
            code="invalid_value",
        )
    shown = repr(first["input"])[:100]
    return HttpError(
        ": ".join(filter(None, (".".join(path[:4]), first["msg"]))),
        got=None if first["type"] == "missing" else shown,
        next_step="send a JSON object with Content-Type: application/json" if not path else None,
        code="invalid_value",
        param=path[0] if path else None,
    )


def status_of(error: Exception) -> int:
    """The status of an error; a bug of ours is 500."""
    return STATUS.get(error.code, 400) if isinstance(error, UserError) else 500


def headers_of(error: Exception) -> dict[str, str]:
    """The headers of an error."""
    return HEADERS.get(status_of(error), {})


def error_body(error: Exception, request_id: str) -> dict[str, Any]:
    """The body of an error; of a bug of ours it says nothing but the id to look for in the log."""
    if not isinstance(error, UserError):
        message = f"an error of the server; its log has it under request id {request_id}"
        return _body(message, 500, None, "internal_error")
    details = error.details if isinstance(error, HttpError) else {}
    code = NAMES.get(error.code, error.code)
    body = _body(one_line(error)[:MAX_MESSAGE], status_of(error), error.param, code)
    body["error"] |= details
    return body


def _body(message: str, status: int, param: str | None, code: str) -> dict[str, Any]:
    kind = TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
