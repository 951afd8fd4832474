"""Runs work for a client as long as the client is there.

FastAPI and uvicorn let a handler run on when the client of a plain answer has left.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import ExitStack, aclosing
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runtime.server.errors import ClientGoneError

__all__ = ["EventStream", "while_connected"]

Result = TypeVar("Result")


async def while_connected(receive: Receive, work: Coroutine[object, object, Result]) -> Result:
    """Runs work to its end, or cancels it when the client leaves.

    Args:
        receive: of a request whose body has been read.
        work: to do.

    Raises:
        ClientGoneError: the client has left.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Sends server-sent events as they are made, and ends their making when the client leaves.

    Args:
        first: the event that was made before the answer began.
        events: the others.
        held: what is given back at the end.
    """

    media_type = "text/event-stream"

    def __init__(self, first: bytes, events: AsyncGenerator[bytes, None], held: ExitStack) -> None:
        # No proxy may keep events back, and none may keep them for others.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._first, self._events, self._held = first, events, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends all events."""
        with self._held:
            async with aclosing(self._events):
                try:
                    await while_connected(receive, self._send(send))
                except ClientGoneError:  # too late for any status but the log's
                    scope["state"]["gone"] = True

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
