"""What a proxy says of itself has the form of our errors; what replicas say passes unchanged."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from runtime.server.proxy_errors import ProxyErrors, middlewares

SCOPE: Scope = {"type": "http", "method": "POST", "headers": [(b"x-request-id", b"r1")]}


def start(status: int, kind: str) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", kind.encode())],
    }


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def passed(*messages: Message) -> list[Message]:
    """What comes out around an application that sends these."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    asyncio.run(ProxyErrors(app)(SCOPE, receive, send))
    return sent


def test_a_proxy_is_given_this_and_nothing_else() -> None:
    assert list(map(repr, middlewares())) == ["Middleware(ProxyErrors)"]


def error_of(sent: list[Message]) -> tuple[int, dict[str, Any], dict[bytes, bytes]]:
    first, second = sent
    return first["status"], json.loads(second["body"])["error"], dict(first["headers"])


@pytest.mark.parametrize(
    ("status", "code", "ours"),
    [
        (503, "server_overloaded", 503),
        (429, "server_overloaded", 503),
        (404, "no_such_route", 404),
        (408, "deadline_exceeded", 503),
    ],
)
def test_a_refusal_of_a_proxy_has_our_body(status: int, code: str, ours: int) -> None:
    sent = passed(start(status, "text/plain; charset=utf-8"), body(b"Request dropped"))
    found, error, headers = error_of(sent)
    assert (found, error["code"]) == (ours, code)
    assert "dropped" not in error["message"]
    assert headers[b"content-type"] == b"application/json"
    assert headers.get(b"retry-after") == (b"1" if ours == 503 else None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, "text/plain"), (503, "application/json"), (200, "text/event-stream")],
)
def test_what_a_replica_answers_passes_unchanged(status: int, kind: str) -> None:
    messages = [start(status, kind), body(b"one", more=True), body(b"two")]
    assert passed(*messages) == messages


def test_a_replica_that_is_lost_before_its_answer_is_an_error_to_try_again() -> None:
    status, error, headers = error_of(passed())
    assert (status, error["code"], headers[b"retry-after"]) == (503, "not_ready", b"1")


@pytest.mark.parametrize("last", [b'data: {"a": 1}\n\n', b"data: {", b"data: { ", b""])
def test_a_stream_whose_replica_is_lost_ends_with_an_error_and_done(last: bytes) -> None:
    begun = [start(200, "text/event-stream"), body(b'data: {"a": 0}\n\n', more=True)]
    sent = passed(*begun, body(last, more=True))
    assert not sent[-1].get("more_body")
    text = b"".join(each["body"] for each in sent[1:]).decode()
    *events, done, end = text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    *_, told = [json.loads(event.removeprefix("data: ")) for event in events]
    assert told["error"]["code"] == "not_ready"


def test_another_answer_that_is_cut_off_is_not_completed() -> None:
    cut = [start(200, "application/json"), body(b'{"half', more=True)]
    assert passed(*cut) == cut
