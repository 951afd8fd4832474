"""The same request has the same answer: plain, streamed, among others, and without a server.

`CASES=1000 pytest tests/runtime/server/test_sameness.py` tries more requests than the suite.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest

from runtime.bundle.reader import load_bundle
from runtime.completion import complete
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Policy, Scheduler
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.from_bundle import open_tokenizer
from runtime.text.template import Message
from tests.dialogues import AGAIN_ALONE, BOX, CAPITAL, LLAMA, STEPS
from tests.serving import PATIENCE, Serving, make_service, ready

CASES = int(os.environ.get("CASES", "100"))
TEXTS = ["".join(dialogue) for dialogue in (CAPITAL, BOX, LLAMA, STEPS, AGAIN_ALONE)]
AT_ONCE = 24


@pytest.fixture(scope="module")
def batching(bundles: Path) -> Iterator[Serving]:
    """Three sequences side by side, in 40 rows of cache each."""
    with ready(make_service(bundles / "small-fp32", max_requests=1000)) as server:
        yield server


def case(seed: int) -> dict[str, Any]:
    """A request as clients make them, short enough for 40 rows."""
    rng = Random(seed)
    text = rng.choice(TEXTS)
    start = rng.randrange(len(text) - 4)
    body: dict[str, Any] = {
        "prompt": text[start : start + rng.randint(1, 8)],
        "max_tokens": rng.randint(1, 14),
        "temperature": rng.choice([0, 0.3, 1.0, 2.0]),
        "seed": rng.randrange(100),
        "top_k": rng.choice([0, 5, 50]),
        "top_p": rng.choice([1.0, 0.8]),
        "repetition_penalty": rng.choice([1.0, 1.2]),
        "ignore_eos": rng.random() < 0.5,
    }
    if rng.random() < 0.3:
        body["stop"] = rng.sample(["a", "的", "。", " the", "box"], 2)
    return body


def directly(bundle: Path, bodies: list[dict[str, Any]]) -> list[str]:
    """The texts of the library, each request alone on an engine that reuses nothing."""
    loaded = load_bundle(bundle)
    tokenizer, session = open_tokenizer(loaded), open_session(loaded)
    texts = []
    for body in bodies:
        given = dict(body)
        prompt, stop = given.pop("prompt"), given.pop("stop", ())
        params = SamplingParams(stop_token_ids=(tokenizer.eos_token_id,), **given)
        scheduler = Scheduler(Engine(session, reuse_prefix=False), Policy(speculate=False))
        texts.append(complete(scheduler, tokenizer, prompt, params, stop).text)
    session.close()
    return texts


async def ask(client: httpx2.AsyncClient, body: dict[str, Any]) -> str:
    reply = await client.post("/v1/completions", json=body)
    assert reply.status_code == 200, reply.text
    if not body.get("stream"):
        return str(reply.json()["choices"][0]["text"])
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    return "".join(json.loads(line)["choices"][0]["text"] for line in lines)


async def ask_all(url: str, bodies: list[dict[str, Any]], at_once: int) -> list[str]:
    room = asyncio.Semaphore(at_once)
    async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client:

        async def one(body: dict[str, Any]) -> str:
            async with room:
                return await ask(client, body)

        return await asyncio.gather(*map(one, bodies))


def test_plain_streamed_among_others_and_alone_is_the_same_text(
    batching: Serving, bundles: Path
) -> None:
    bodies = [case(seed) for seed in range(CASES)]
    streamed = [body | {"stream": True} for body in bodies]
    expected = directly(bundles / "small-fp32", bodies)
    assert asyncio.run(ask_all(batching.url, bodies, 1)) == expected
    mixed = Random(0).sample([*enumerate(bodies), *enumerate(streamed)], 2 * len(bodies))
    texts = asyncio.run(ask_all(batching.url, [body for _, body in mixed], AT_ONCE))
    differing = [i for (i, _), text in zip(mixed, texts, strict=True) if text != expected[i]]
    assert not differing
    assert batching.service.model().engines.each[0].scheduler.counters.decode_calls > 0


def test_many_choices_and_chats_are_those_that_come_alone(batching: Serving) -> None:
    body = {"prompt": "北京是", "n": 8, "seed": 3, "temperature": 1.5, "max_tokens": 10}
    with batching.http() as http:
        many = http.post("/v1/completions", json=body).json()["choices"]
        alone = [
            http.post("/v1/completions", json=body | {"n": 1, "seed": 3 + i}).json()["choices"][0]
            for i in range(8)
        ]
    assert [choice["text"] for choice in many] == [choice["text"] for choice in alone]


def test_no_piece_of_sixteen_streams_has_a_broken_character_or_is_of_another(
    bundles: Path,
) -> None:
    """Pieces of one token each: a llama is four of them, and none may show before its last."""
    dialogues = [LLAMA, CAPITAL, AGAIN_ALONE, STEPS] * 4

    async def pieces(client: httpx2.AsyncClient, question: str) -> list[str]:
        body = {"messages": [{"role": "user", "content": question}], "stream": True}
        found = []
        async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    found.append(json.loads(line[6:])["choices"][0]["delta"]["content"])
        return found

    async def all_pieces(url: str) -> list[list[str]]:
        async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            return await asyncio.gather(*(pieces(client, question) for question, _ in dialogues))

    with ready(make_service(bundles / "crowd-int4")) as crowd:
        found = asyncio.run(all_pieces(crowd.url))
        counters = crowd.service.model().engines.each[0].scheduler.counters
    assert ["".join(each) for each in found] == [answer for _, answer in dialogues]
    assert not any("\ufffd" in piece for each in found for piece in each)
    assert counters.decode_calls < sum(map(len, found)) / 2  # most calls were for several


def test_a_character_that_stays_incomplete_is_the_same_in_both(batching: Serving) -> None:
    """Bytes of characters, drawn at random: what is broken is broken the same way."""
    tokenizer = batching.service.model().tokenizer
    byte_ids = [i for i in range(tokenizer.vocab_size) if tokenizer.name(i).startswith("<0x")]
    bias = dict.fromkeys(map(str, byte_ids), 100)
    bodies = [
        {"prompt": "龘", "seed": i, "temperature": 1, "max_tokens": 20, "logit_bias": bias}
        for i in range(16)
    ]
    plain = asyncio.run(ask_all(batching.url, bodies, 16))
    streamed = asyncio.run(ask_all(batching.url, [b | {"stream": True} for b in bodies], 16))
    assert plain == streamed
    assert any("\ufffd" in text for text in plain)


def test_a_chat_over_http_is_that_of_the_library(talking: Serving, bundles: Path) -> None:
    loaded = load_bundle(bundles / "talk-int4")
    tokenizer, session = open_tokenizer(loaded), open_session(loaded)
    params = SamplingParams(
        temperature=1.0, seed=11, max_tokens=40, stop_token_ids=(tokenizer.eos_token_id,)
    )
    with talking.http() as http:
        for question, _ in (BOX, STEPS, CAPITAL):
            asked = [Message(role="user", content=question)]
            scheduler = Scheduler(Engine(session, reuse_prefix=False))
            expected = complete(scheduler, tokenizer, asked, params)
            body = {
                "messages": [{"role": "user", "content": question}],
                "temperature": 1.0,
                "seed": 11,
                "max_tokens": 40,
            }
            reply = http.post("/v1/chat/completions", json=body).json()
            assert reply["choices"][0]["message"]["content"] == expected.text
            assert reply["usage"]["completion_tokens"] == expected.completion_tokens
    session.close()
