"""A strict server of OpenAI's API whose answers are written down, good ones and bad ones.

Each request for a completion takes the next of `plays`; the last one is for all that follow. A
request that lacks what ours need is answered 400.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

__all__ = ["Fake", "Play", "answer", "fake_server", "refuse", "sse", "stream"]

Play = Callable[["Handler", dict[str, Any]], None]


def sse(document: object) -> bytes:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()


def answer(document: dict[str, Any]) -> Play:
    """One JSON object."""
    return lambda handler, _: handler.give(200, json.dumps(document).encode())


def refuse(status: int, message: str, **headers: str) -> Play:
    """An error, as OpenAI's API has it."""
    body = json.dumps({"error": {"message": message, "type": "x", "param": None, "code": "y"}})
    return lambda handler, _: handler.give(status, body.encode(), **headers)


def stream(
    *texts: str, usage: bool = True, done: bool = True, error: str = "", cut: bool = False
) -> Play:
    """A stream of these texts; a cut one ends in the middle of its transfer."""

    def play(handler: "Handler", body: dict[str, Any]) -> None:
        events = [sse({"choices": [{"index": 0, "text": text}]}) for text in texts]
        if error:
            events.append(sse({"error": {"message": error}}))
        if usage:
            prompt = body["prompt"]
            num_tokens = len(prompt.split() if isinstance(prompt, str) else prompt)
            counts = {"prompt_tokens": num_tokens, "completion_tokens": len(texts)}
            events.append(sse({"choices": [], "usage": counts}))
        if done:
            events.append(b"data: [DONE]\n\n")
        handler.begin(200, "text/event-stream", {"Transfer-Encoding": "chunked"})
        for event in events:
            handler.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        if cut:
            handler.close_connection = True
        else:
            handler.wfile.write(b"0\r\n\r\n")

    return play


@dataclass
class Fake:
    """What the server is asked and answers.

    models: the list of /v1/models.
    others: path -> JSON object, or a status.
    """

    plays: Sequence[Play] = ()
    models: Sequence[dict[str, Any]] = ({"id": "fake", "max_model_len": 512},)
    others: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def next_play(self, body: dict[str, Any]) -> Play:
        with self.lock:
            self.asked.append(body)
            return self.plays[min(len(self.asked), len(self.plays)) - 1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def log_message(self, *_: object) -> None:
        pass

    def begin(self, status: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def give(self, status: int, body: bytes, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.begin(status, "application/json", {"Content-Length": str(len(body)), **named})
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, Any]) -> None:
        fake = self.fake
        if fake.key and self.headers["Authorization"] != f"Bearer {fake.key}":
            refuse(401, "no such key")(self, body)
        elif self.path == "/v1/models":
            answer({"object": "list", "data": list(fake.models)})(self, body)
        elif self.path in ("/v1/completions", "/v1/chat/completions"):
            play = fake.next_play(body) if _is_good(body) else refuse(400, f"not good: {body}")
            play(self, body)
        elif self.path in fake.others:
            answer(fake.others[self.path])(self, body)
        else:
            refuse(404, "there is nothing here")(self, body)


def _is_good(body: dict[str, Any]) -> bool:
    prompt = body.get("prompt", body.get("messages"))
    streams = body.get("stream_options") is None or body.get("stream") is True
    return bool(prompt) and body["model"] == "fake" and body["max_tokens"] >= 1 and streams


@contextmanager
def fake_server(fake: Fake) -> Iterator[str]:
    """Runs it and gives its URL."""
    handler = type("Bound", (Handler,), {"fake": fake})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
