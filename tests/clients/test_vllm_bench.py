"""`vllm bench serve`: every request of a run succeeds, with the tokens that were asked for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from aiohttp import ClientResponseError, ClientSession

from tests.clients.conftest import Server
from tests.clients.vllm_bench import (
    Outcome,
    Reader,
    ask,
    chat_body,
    first_model,
    fit_to_server,
    text_body,
)
from tests.dialogues import BOX, CAPITAL, LLAMA, RAW, STEPS

DIALOGUES = [CAPITAL, BOX, LLAMA, STEPS] * 4
T = TypeVar("T")


def run(do: Callable[[ClientSession], Awaitable[T]], **options: Any) -> T:
    async def in_session() -> T:
        async with ClientSession(**options) as session:
            return await do(session)

    return asyncio.run(in_session())


def ask_all(url: str, bodies: list[dict[str, Any]]) -> list[Outcome]:
    """All at once, as `--request-rate inf` does."""

    async def all_at_once(session: ClientSession) -> list[Outcome]:
        asked = (ask(session, url, body, f"bench-{i}") for i, body in enumerate(bodies))
        return await asyncio.gather(*asked)

    return run(all_at_once)


def check(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        assert outcome.ttft is not None, "the request has failed"
        assert len(outcome.itl) < outcome.num_output, "an event has a token or more"
        assert outcome.num_prompt > 0


def test_texts_have_their_answers(server: Server) -> None:
    bodies = [
        text_body("talk", RAW.format(question), 64, temperature=0) for question, _ in DIALOGUES
    ]
    outcomes = ask_all(f"{server.api}/completions", bodies)
    check(outcomes)
    assert [each.text.strip() for each in outcomes] == [answer for _, answer in DIALOGUES]


def test_chats_have_their_answers(server: Server) -> None:
    bodies = [chat_body("talk", question, 64, temperature=0) for question, _ in DIALOGUES]
    outcomes = ask_all(f"{server.api}/chat/completions", bodies)
    check(outcomes)
    assert [each.text for each in outcomes] == [answer for _, answer in DIALOGUES]


@pytest.mark.parametrize("prompt", ["An edge box", list(range(3, 260))], ids=["text", "tokens"])
def test_answers_are_as_long_as_was_asked_for(prompt: object, server: Server) -> None:
    extra = {"ignore_eos": True, "temperature": 1.0, "top_p": 0.9, "top_k": 40, "min_p": 0.0}
    outcomes = ask_all(
        f"{server.api}/completions", [text_body("talk", prompt, 48, **extra) for _ in range(16)]
    )
    check(outcomes)
    assert {outcome.num_output for outcome in outcomes} == {48}


def test_the_model_and_its_tokenizer_are_found(server: Server) -> None:
    headers = {"Authorization": f"Bearer {server.key}"}

    async def find(session: ClientSession) -> tuple[str, str, str]:
        name, root = await first_model(session, server.url, headers)
        return name, root, await fit_to_server(session, server.url, root, "An edge " * 40, 7)

    name, root, prompt = run(find, headers=headers)
    assert (name, root) == ("talk", "talk")
    assert prompt == "An edge An edge An edge An"


def test_prompts_are_left_as_they_are_where_the_server_has_a_key(server: Server) -> None:
    """It asks for tokens without its key, and then warns and goes on."""
    with pytest.raises(ClientResponseError, match="401"):
        run(lambda session: fit_to_server(session, server.url, "talk", "An edge", 7))


def test_a_wait_costs_it_an_event_where_it_is_filled_with_comments() -> None:
    """A fault of its own, which is why the server begins the next event instead."""
    comments = (b": ping\n\n", b'data: {"a": 1}\n\n')
    spaces = (b"data: {", b" ", b" ", b'"a": 1}\n\n')
    told = [
        [each for data in reads for each in reader.feed(data)]
        for reader, reads in ((Reader(), comments), (Reader(), spaces))
    ]
    assert told == [[], ['{"a": 1}']]
