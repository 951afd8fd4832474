"""Answers as server-sent events.

One event a piece, LF line ends, usage last with no choices, then [DONE]; an error in the place of
what would have come next.

While nothing comes, the next event is begun and grows by a space now and then, which JSON allows.
The comments that the standard has for this break clients: vllm bench loses what comes after one,
sglang's benchmark reads it as JSON, and openai-go takes its blank line for an event.
"""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from runtime.server.answers import Answers
from runtime.server.asked import Asked
from runtime.server.errors import error_body
from runtime.server.replies import Reply
from runtime.server.wording import Wording, usage_of

__all__ = ["DONE", "START", "events"]

START = b"data: {"  # of every event, whatever it says
DONE = b"data: [DONE]\n\n"
log = logging.getLogger("runtime.server")


async def events(
    answers: Answers, asked: Asked, wording: Wording, ping_interval: float, request_id: str
) -> AsyncGenerator[bytes, None]:
    """Yields the events of a stream; ends the answers when it is closed.

    Raises:
        UserError: an answer ended before the first event, so that it can have a status.
    """
    sent, begun = False, b""  # anything; what is there of the next event
    try:
        async with aclosing(answers.pieces(ping_interval)) as pieces:
            async for piece in pieces:
                if piece is None:
                    yield b" " if begun else START
                    begun = START
                else:
                    usage = usage_of(answers) if asked.usage_always else None
                    yield _event(wording.event(piece, usage)).removeprefix(begun)
                    begun = b""
                sent = True
        if asked.usage:
            yield _event(wording.usage_event(usage_of(answers)))
        yield DONE
    except Exception as error:
        if not sent:
            raise
        log.warning("a stream ended with an error", exc_info=error)
        told = json.dumps(error_body(error, request_id), ensure_ascii=False)
        data = f"data: {told}\n\n".encode(errors="backslashreplace")
        yield data.removeprefix(begun)
        yield DONE
    finally:
        answers.close()


def _event(reply: Reply) -> bytes:
    return f"data: {reply.model_dump_json()}\n\n".encode()
