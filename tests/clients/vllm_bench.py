"""The requests of `vllm bench serve` and how it reads what it gets: a rebuild, without vLLM.

vLLM itself brings a torch with CUDA, of several GB. Read in its sources of September 2026, in
vllm/benchmarks/: lib/endpoint_request_func.py and serve.py. What it does oddly is done so here.
"""

import json
import os
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession

__all__ = ["Outcome", "ask", "chat_body", "first_model", "fit_to_server", "text_body"]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What it notes of a request. Times are in seconds.

    ttft: from sending to the first event with a choice, None where there was none.
    itl: between each two events with a choice.
    """

    text: str = ""
    ttft: float | None = None
    itl: list[float] = field(default_factory=list)
    num_output: int = 0
    num_prompt: int = 0


class Reader:
    """Its reader of events: LF alone ends a line, and each read loses the space at its ends."""

    def __init__(self) -> None:
        self._rest = ""
        self._decode = getincrementaldecoder("utf-8")().decode

    def feed(self, data: bytes) -> Iterator[str]:
        """Yields what follows `data: ` in the messages that are whole."""
        data = data.strip()
        *messages, self._rest = (self._rest + self._decode(data)).split("\n\n")
        if self._is_whole():  # its end was lost
            messages.append(self._rest)
            self._rest = ""
        for message in messages:
            if message.strip() and not message.strip().startswith(":"):
                yield message.strip().removeprefix("data: ")

    def _is_whole(self) -> bool:
        if not self._rest.startswith("data: "):
            return False
        content = self._rest.removeprefix("data: ").strip()
        try:
            return content == "[DONE]" or json.loads(content) is not None
        except json.JSONDecodeError:
            return False


def text_body(model: str, prompt: object, max_tokens: int, **extra: Any) -> dict[str, Any]:
    """For /v1/completions; `--backend openai`."""
    return {
        "model": model,
        "prompt": prompt,
        "repetition_penalty": 1.0,
        "max_tokens": max_tokens,
        "logprobs": None,
        "stream": True,
        "stream_options": {"include_usage": True},
        **extra,
    }


def chat_body(model: str, prompt: str, max_tokens: int, **extra: Any) -> dict[str, Any]:
    """For /v1/chat/completions; `--backend openai-chat`."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": [{"type": "text", "text": prompt}]}],
        "max_completion_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **extra,
    }


async def ask(session: ClientSession, url: str, body: dict[str, Any], request_id: str) -> Outcome:
    """Sends one request; one that has no event with a choice has failed."""
    headers = {
        "Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}",
        "x-request-id": request_id,
    }
    outcome, reader = Outcome(), Reader()
    latest = begun = time.perf_counter()
    async with session.post(url, json=body, headers=headers) as response:
        assert response.status == 200, response.reason
        async for data in response.content.iter_any():
            for message in reader.feed(data):
                if message == "[DONE]":
                    continue
                event = json.loads(message)
                if event.get("choices"):
                    now = time.perf_counter()
                    if outcome.ttft is None:
                        outcome.ttft = now - begun
                    else:
                        outcome.itl.append(now - latest)
                    latest = now
                    [choice] = event["choices"]
                    outcome.text += choice.get("text") or choice.get("delta", {}).get("content", "")
                elif event.get("usage"):
                    outcome.num_output = event["usage"]["completion_tokens"]
                    outcome.num_prompt = event["usage"]["prompt_tokens"]
    return outcome


async def first_model(session: ClientSession, url: str, headers: dict[str, str]) -> tuple[str, str]:
    """The name of the model and where its tokenizer is, without `--model`."""
    async with session.get(f"{url}/v1/models", headers=headers) as response:
        response.raise_for_status()
        first = (await response.json())["data"][0]
    return first["id"], first["root"]


async def fit_to_server(
    session: ClientSession, url: str, model: str, prompt: str, num_tokens: int
) -> str:
    """Cuts a random prompt to so many tokens of the server's tokenizer."""
    body = {"model": model, "prompt": prompt, "add_special_tokens": False}
    async with session.post(f"{url}/tokenize", json=body) as response:
        response.raise_for_status()
        tokens = (await response.json())["tokens"]
    async with session.post(
        f"{url}/detokenize", json={"model": model, "tokens": tokens[:num_tokens]}
    ) as response:
        response.raise_for_status()
        text: str = (await response.json())["prompt"]
    return text
