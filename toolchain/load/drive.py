"""Puts a load on a server and times every request, all on one event loop."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx2

from runtime.timing import now
from toolchain.load.exchange import Exchange, Reading
from toolchain.load.pattern import Load, arrivals
from toolchain.load.prompts import Prompts
from toolchain.remote.address import Address
from toolchain.remote.clients import async_client
from toolchain.remote.failure import of_exception, of_reply

__all__ = ["Client", "Driven", "drive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who asks, and what it asks for besides the prompt."""

    address: Address
    model: str
    prompts: Prompts
    chat: bool
    seed: int

    @property
    def path(self) -> str:
        """Where it asks."""
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    def body(self, load: Load, rng: Random) -> dict[str, Any]:
        """A request: greedy, of exactly so many tokens, with the count of them at its end."""
        prompt = self.prompts.make(load.input_tokens, rng)
        messages = {"messages": [{"role": "user", "content": prompt}]}
        return {
            "model": self.model,
            **(messages if self.chat else {"prompt": prompt}),
            "max_tokens": load.output_tokens,
            "temperature": 0,
            "repetition_penalty": 1,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """A load that was put on a server: its requests, when it began and when it ended."""

    warm_up: list[Exchange]
    exchanges: list[Exchange]
    began: float
    ended: float


async def drive(client: Client, load: Load) -> Driven:
    """Warms the server up, and then puts the load on it.

    A request whose warm-up failed would fail too: then the load is not begun.
    """
    rng = Random(f"{client.seed} {load}")
    first, bodies = (
        [client.body(load, rng) for _ in range(num)] for num in (load.warm_up, load.num_requests)
    )
    async with async_client(client.address) as http:
        warm_up = await _closed(http, client.path, first, load.clients or 1)
        began = now()
        exchanges: list[Exchange] = []
        if not any(exchange.failure for exchange in warm_up):
            if load.rate is not None:
                dues = [began + at for at in arrivals(load.rate, load.num_requests, rng)]
                exchanges = await _open(http, client.path, bodies, dues)
            else:
                exchanges = await _closed(http, client.path, bodies, load.clients or 1)
        return Driven(warm_up=warm_up, exchanges=exchanges, began=began, ended=now())


async def _closed(
    http: httpx2.AsyncClient, path: str, bodies: Sequence[dict[str, Any]], clients: int
) -> list[Exchange]:
    """So many clients, each of which takes the next request when its last one has ended."""
    waiting, done = iter(bodies), list[Exchange]()

    async def work() -> None:
        for body in waiting:
            done.append(await _ask(http, path, body, now()))

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(work())
    return done


async def _open(
    http: httpx2.AsyncClient, path: str, bodies: Sequence[dict[str, Any]], dues: Sequence[float]
) -> list[Exchange]:
    """Each request at its time."""
    tasks = []
    async with asyncio.TaskGroup() as group:
        for body, due in zip(bodies, dues, strict=True):
            await asyncio.sleep(due - now())
            tasks.append(group.create_task(_ask(http, path, body, due)))
    return [task.result() for task in tasks]


async def _ask(http: httpx2.AsyncClient, path: str, body: dict[str, Any], due: float) -> Exchange:
    reading, failure, sent = Reading(), None, now()
    try:
        async with http.stream("POST", path, json=body) as response:
            if response.status_code == 200:
                async for data in response.aiter_bytes():
                    reading.add(data, now())
            else:
                content = await response.aread()
                failure = of_reply(response.status_code, response.headers, content)
    except httpx2.HTTPError as error:
        failure = of_exception(error)
    return reading.result(due, sent, now(), failure)
