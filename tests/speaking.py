"""A server with the real chat page, and an API that says what a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from runtime.server.listen import listening
from runtime.server.page import page_routes
from runtime.server.settings import Settings

PATIENCE = 60.0  # seconds; a test that waits so long fails


class Speaker:
    """What the API says next, and what it was asked.

    pieces: of each answer; an Exception among them breaks the connection,
        and an EOFError at their end closes it as if all had been said.
    error: in the place of an answer: (status, body, headers).
    gate: is waited for before the last piece.
    """

    def __init__(self) -> None:
        self.port = 0
        self.reset()

    def reset(self) -> None:
        """Forgets what a test wanted."""
        self.name = "speaker"
        self.pieces: list[str | Exception] = ["Hello."]
        self.error: tuple[int, dict[str, Any], dict[str, str]] | None = None
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.health: dict[str, Any] = {"status": "ready", "step": None, "progress": None}
        self.gate = Event()
        self.gate.set()

    def says(self, *pieces: str | Exception) -> None:
        self.pieces = list(pieces)

    async def events(self) -> AsyncIterator[bytes]:
        *former, last = self.pieces
        for piece in former:
            yield _event(_said(piece))
        await asyncio.to_thread(self.gate.wait, PATIENCE)
        if isinstance(last, EOFError):
            return
        yield _event(_said(last, "stop"))
        usage = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
        yield _event({"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"


def _said(piece: str | Exception, finish: str | None = None) -> dict[str, Any]:
    if isinstance(piece, Exception):
        raise piece
    return {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": finish}]}


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


@contextmanager
def speaking() -> Iterator[Speaker]:
    """Runs it on a free port."""
    speaker, app = Speaker(), FastAPI()
    app.include_router(page_routes())

    @app.get("/health/ready")
    async def health() -> Response:
        return JSONResponse(speaker.health, 200 if speaker.health["status"] == "ready" else 503)

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"data": [{"id": speaker.name, "max_model_len": 2048}]})

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        speaker.asked.append(await request.json())
        speaker.keys.append(request.headers.get("authorization"))
        if speaker.error is not None:
            status, body, headers = speaker.error
            return JSONResponse(body, status, headers)
        return StreamingResponse(speaker.events(), media_type="text/event-stream")

    with listening(Settings(port=0)) as sockets:
        speaker.port = sockets[0].getsockname()[1]
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, args=(sockets,), name="speaker")
        thread.start()
        try:
            yield speaker
        finally:
            speaker.gate.set()
            server.should_exit = True
            thread.join(PATIENCE)
