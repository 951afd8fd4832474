"""The bytes of a stream, read as the tools read them that are strict about it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.dialogues import LLAMA
from tests.serving import Gate, Serving, make_service, ready

CHAT = {"messages": [{"role": "user", "content": LLAMA[0]}], "stream": True}
TEXT = {"prompt": "An edge", "stream": True, "max_tokens": 8, "temperature": 0}


def stream(server: Serving, path: str, body: dict[str, Any]) -> bytes:
    with server.http() as http:
        reply = http.post(path, json=body)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["cache-control"] == "no-store"
    return reply.content


def events(data: bytes) -> list[dict[str, Any]]:
    """As `vllm bench serve` reads them: parted by two LFs, after `data: `."""
    *parts, rest = data.split(b"\n\n")
    assert rest == b""
    assert b"\r" not in data
    assert all(part.startswith(b"data: ") for part in parts)
    assert parts[-1] == b"data: [DONE]"
    return [json.loads(part.removeprefix(b"data: ")) for part in parts[:-1]]


@pytest.mark.parametrize(("path", "body"), [("chat/completions", CHAT), ("completions", TEXT)])
def test_events_are_what_the_strictest_readers_take(
    path: str, body: dict[str, Any], talking: Serving
) -> None:
    body = body | {"stream_options": {"include_usage": True}}
    *told, last = events(stream(talking, f"/v1/{path}", body))
    choices = [event["choices"][0] for event in told]
    texts = [choice.get("text") or choice.get("delta", {}).get("content") for choice in choices]
    assert all(texts[:-1]), "some clients stop at an empty text"
    assert [choice["finish_reason"] is None for choice in choices] == [True] * (len(told) - 1) + [
        False
    ]
    assert last["choices"] == []
    pieces = len(told) + (9 if "chat" in path else 0)  # a llama is 4 tokens, a rare sign 3
    assert last["usage"]["completion_tokens"] in range(len(told), pieces + 1)
    assert {event["id"] for event in (*told, last)} == {last["id"]}


def test_usage_in_every_event_counts_up(talking: Serving) -> None:
    body = TEXT | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    counts = [
        event["usage"]["completion_tokens"]
        for event in events(stream(talking, "/v1/completions", body))
    ]
    assert counts == [*range(1, 9), 8]


def test_the_request_of_vllm_bench_gives_one_event_a_token(talking: Serving) -> None:
    body = {
        "model": "talk",
        "prompt": "An edge",
        "repetition_penalty": 1.0,
        "max_tokens": 20,
        "logprobs": None,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "temperature": 0.0,
    }
    *told, last = events(stream(talking, "/v1/completions", body))
    assert last["usage"]["completion_tokens"] == 20
    assert len(told) <= 20
    with_text = [event for event in told if event["choices"][0]["text"]]
    assert len(with_text) >= len(told) - 1


def test_the_choices_of_a_stream_are_those_of_the_plain_answer(talking: Serving) -> None:
    body = TEXT | {"n": 3, "seed": 5, "temperature": 1.2}
    texts = ["", "", ""]
    for event in events(stream(talking, "/v1/completions", body)):
        for choice in event["choices"]:
            texts[choice["index"]] += choice["text"]
    with talking.http() as http:
        plain = http.post("/v1/completions", json=body | {"stream": False}).json()["choices"]
    assert texts == [choice["text"] for choice in plain]


def test_an_echo_is_the_beginning_of_the_first_event(talking: Serving) -> None:
    first, *others = events(stream(talking, "/v1/completions", TEXT | {"echo": True}))
    assert first["choices"][0]["text"].startswith("An edge")
    assert not any("An edge" in event["choices"][0]["text"] for event in others)


@contextmanager
def waiting(bundles: Path, kind: type[Gate] = Gate) -> Iterator[tuple[Gate, Iterator[bytes]]]:
    """A stream that waits for its first token: the gate that it waits at, and its reads."""
    gates: list[Gate] = []

    def gate(session: Any) -> Gate:
        gates.append(kind(session))
        return gates[0]

    service = make_service(bundles / "talk-int4", gate, ping_interval=0.01)
    with ready(service) as server, server.http() as http:
        gates[0].shut()
        with http.stream("POST", "/v1/completions", json=TEXT) as reply:
            yield gates[0], reply.iter_raw()


def test_an_event_that_takes_long_is_begun_and_grows_by_spaces(
    bundles: Path, talking: Serving
) -> None:
    """No comments, which break clients, and nothing that a client could take for an event."""
    with waiting(bundles) as (gate, reads):
        begun = b""
        while len(begun) < 12:
            begun += next(reads)
        assert begun == b"data: {" + b" " * (len(begun) - 7)
        gate.open.set()
        whole = events(begun + b"".join(reads))
    plain = events(stream(talking, "/v1/completions", TEXT))
    assert [event["choices"] for event in whole] == [event["choices"] for event in plain]


def test_an_error_after_a_wait_is_an_event_too(bundles: Path) -> None:
    class Failing(Gate):
        def run(self, *arguments: Any) -> Any:
            logits = super().run(*arguments)
            if self.knocked.is_set():
                raise OSError("the device is gone")
            return logits

    with waiting(bundles, Failing) as (gate, reads):
        begun = next(reads)
        gate.open.set()
        [error] = events(begun + b"".join(reads))
    assert error["error"]["code"] == "internal_error"


def test_an_error_in_a_stream_is_an_event_and_then_it_is_done(bundles: Path) -> None:
    class Failing(Gate):
        calls = 0

        def run(self, *arguments: Any) -> Any:
            self.calls += 1
            if self.calls == 6:
                raise OSError("the device is gone")
            return super().run(*arguments)

    with ready(make_service(bundles / "talk-int4", Failing)) as server:
        *told, error = events(stream(server, "/v1/completions", TEXT))
        assert told
        assert error["error"]["code"] == "internal_error"
        assert "device" not in str(error), "what went wrong inside is for the log"
        assert len(events(stream(server, "/v1/completions", TEXT))) == 8, "the next one is whole"
