"""The server on an emulated card: chats, streams, stop texts, clients that leave, faults."""

import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import load_bundle
from runtime.errors import SessionError
from runtime.progress import SILENT
from runtime.server.loading import open_model
from runtime.server.service import Service
from runtime.server.settings import Settings
from runtime.sessions.base import Chunk, Logits
from tests.ascend.conftest import Toolkit
from tests.ascend.tokens import SOC, Card
from tests.dialogues import AGAIN, BOX, CAPITAL, STEPS
from tests.serving import Serving, eventually, is_idle, ready
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle


@pytest.fixture
def on_card(bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path) -> Iterator[Serving]:
    """Opened in one thread and run in another, as the command does it."""
    toolkit()
    exported = load_bundle(bundles / "talk-exported")
    made = compile_bundle(exported, tmp_path / "om", Choices(target="310p3"), progress=SILENT)
    card(soc_name=SOC["310p3"])
    settings, bundle = Settings(port=0), load_bundle(made.path)
    with ready(Service(settings, lambda p: open_model(bundle, settings, p))) as server:
        yield server


def chat(server: Serving, *texts: str, **extra: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    with server.http() as http:
        reply = http.post("/v1/chat/completions", json={"messages": messages, **extra})
    if not extra.get("stream"):
        return {"status": reply.status_code, **reply.json()}
    events = [json.loads(line[6:]) for line in reply.text.splitlines() if line[:7] == "data: {"]
    return {"text": "".join(each["choices"][0]["delta"]["content"] for each in events)}


def text_of(reply: dict[str, Any]) -> str:
    return str(reply["choices"][0]["message"]["content"])


def test_the_server_on_a_card_does_what_it_does_on_a_cpu(on_card: Serving) -> None:
    assert text_of(chat(on_card, CAPITAL[0])) == CAPITAL[1]
    assert text_of(chat(on_card, *STEPS, AGAIN[0])) == AGAIN[1]
    assert chat(on_card, BOX[0], stream=True)["text"] == BOX[1]
    assert text_of(chat(on_card, BOX[0], stop=" computer")) == "An edge box is a small"
    leave(on_card)
    eventually(on_card, lambda: is_idle(on_card))
    session, model = on_card.service.model().engines.each[0].session, on_card.service.model()
    run = session.run

    def fail(graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        raise SessionError("the device stumbled")

    session.run = fail  # type: ignore[method-assign]
    assert chat(on_card, CAPITAL[0])["status"] == 500
    session.run = run  # type: ignore[method-assign]
    assert text_of(chat(on_card, CAPITAL[0])) == CAPITAL[1]
    assert model.engines.failure is None


def leave(server: Serving) -> None:
    """A client that goes away in the middle of a stream."""
    body = b'{"prompt": "An", "max_tokens": 200, "ignore_eos": true, "stream": true}'
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(1)
