"""What OpenAI's own client gets: the answers, the streams, the names of the errors."""

import asyncio
import json
from collections.abc import Iterator

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.dialogues import AGAIN, AGAIN_ALONE, BOX, CAPITAL, LLAMA, STEPS
from tests.serving import Serving

DIALOGUES = [CAPITAL, BOX, LLAMA, STEPS, AGAIN_ALONE]


@pytest.fixture
def client(talking: Serving) -> Iterator[OpenAI]:
    with talking.openai() as client:
        yield client


def asks(*texts: str) -> list[ChatCompletionMessageParam]:
    """Questions and answers in turn, the user first."""
    messages: list[ChatCompletionMessageParam] = []
    for i, text in enumerate(texts):
        if i % 2 == 0:
            messages.append({"role": "user", "content": text})
        else:
            messages.append({"role": "assistant", "content": text})
    return messages


@pytest.mark.parametrize(("question", "answer"), DIALOGUES, ids=lambda text: text[:12])
def test_a_question_has_its_answer(question: str, answer: str, client: OpenAI) -> None:
    reply = client.chat.completions.create(model="talk", messages=asks(question))
    (choice,) = reply.choices
    assert choice.message.content == answer
    assert (choice.finish_reason, choice.message.role) == ("stop", "assistant")
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.model == "talk"


def test_a_conversation_goes_on(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="talk", messages=asks(*STEPS, AGAIN[0]))
    assert reply.choices[0].message.content == AGAIN[1]


def test_content_may_come_in_parts_and_with_other_roles(client: OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "developer", "content": "You are a helpful assistant. 你是一个乐于助人的助手。"},
        {"role": "user", "content": [{"type": "text", "text": CAPITAL[0]}], "name": "me"},
    ]
    reply = client.chat.completions.create(
        model="talk", messages=messages, max_completion_tokens=40
    )
    assert reply.choices[0].message.content == CAPITAL[1]


@pytest.mark.parametrize(("question", "answer"), DIALOGUES, ids=lambda text: text[:12])
def test_a_stream_says_the_same_token_by_token(question: str, answer: str, client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="talk",
            messages=asks(question),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *told, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in told) == answer
    assert all(chunk.choices[0].delta.content for chunk in told[:-1])
    assert [chunk.choices[0].delta.role for chunk in told] == ["assistant"] + [None] * (
        len(told) - 1
    )
    assert [chunk.choices[0].finish_reason for chunk in told] == [None] * (len(told) - 1) + ["stop"]
    assert last.choices == []
    assert last.usage is not None
    plain = client.chat.completions.create(model="talk", messages=asks(question))
    assert last.usage == plain.usage


def test_the_stream_helper_puts_the_answer_together(client: OpenAI) -> None:
    with client.chat.completions.stream(model="talk", messages=asks(BOX[0])) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == BOX[1]


def test_many_clients_at_once_each_have_their_own_answer(talking: Serving) -> None:
    async def ask(client: AsyncOpenAI, question: str) -> str:
        stream = await client.chat.completions.create(
            model="talk", messages=asks(question), stream=True
        )
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return "".join(parts)

    async def ask_all() -> list[str]:
        transport = httpx2.AsyncClient(trust_env=False)
        async with AsyncOpenAI(
            base_url=f"{talking.url}/v1", api_key="none", max_retries=0, http_client=transport
        ) as client:
            return await asyncio.gather(*(ask(client, question) for question, _ in DIALOGUES * 4))

    assert asyncio.run(ask_all()) == [answer for _, answer in DIALOGUES * 4]


def test_several_choices_are_those_of_the_seeds_in_turn(client: OpenAI) -> None:
    def texts(n: int, seed: int) -> list[str]:
        reply = client.completions.create(
            model="talk", prompt="An edge", n=n, seed=seed, temperature=1.5, max_tokens=12
        )
        assert [choice.index for choice in reply.choices] == list(range(n))
        return [choice.text for choice in reply.choices]

    assert texts(4, 7) == [*texts(1, 7), *texts(1, 8), *texts(1, 9), *texts(1, 10)]
    assert len(set(texts(4, 7))) > 1


def test_several_prompts_have_their_choices_side_by_side(client: OpenAI) -> None:
    prompts = ["An edge", "北京是"]
    together = client.completions.create(model="talk", prompt=prompts, n=2, temperature=0)
    alone = [client.completions.create(model="talk", prompt=p, temperature=0) for p in prompts]
    texts = [choice.text for choice in together.choices]
    assert texts == [alone[0].choices[0].text] * 2 + [alone[1].choices[0].text] * 2
    assert together.usage is not None
    assert together.usage.prompt_tokens == sum(a.usage.prompt_tokens for a in alone if a.usage)


def test_a_stop_string_ends_the_answer_and_is_named(talking: Serving) -> None:
    body = {"messages": asks(BOX[0]), "stop": [" computer", "never", None]}
    with talking.http() as http:
        choice = http.post("/v1/chat/completions", json=body).json()["choices"][0]
        assert choice["message"]["content"] == "An edge box is a small"
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", " computer")
        streamed = http.post("/v1/chat/completions", json=body | {"stream": True}).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert (
        "".join(each["choices"][0]["delta"]["content"] for each in events)
        == (choice["message"]["content"])
    )
    assert events[-1]["choices"][0]["stop_reason"] == " computer"


def test_an_end_of_ones_own_is_named_and_the_models_is_not(client: OpenAI) -> None:
    def ask(**extra: object) -> tuple[str, object]:
        reply = client.chat.completions.create(
            model="talk", messages=asks(BOX[0]), extra_body=extra
        )
        choice = reply.choices[0]
        return choice.finish_reason, (choice.model_extra or {})["stop_reason"]

    assert ask() == ("stop", None)
    assert ask(stop_token_ids=[70], logit_bias={"70": 100}) == ("stop", 70)
    assert ask(max_tokens=3) == ("length", None)


def test_log_probabilities_of_a_chat_are_those_of_its_tokens(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="talk", messages=asks(LLAMA[0]), logprobs=True, top_logprobs=3
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    *shown, end = logprobs.content
    assert end.token == "</s>"
    data = b"".join(bytes(token.bytes or []) for token in shown)
    assert data.decode().strip() == LLAMA[1]
    for token in logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == token.top_logprobs[0].logprob, "greedy takes the likeliest"
    streamed = [
        entry
        for chunk in client.chat.completions.create(
            model="talk", messages=asks(LLAMA[0]), logprobs=True, top_logprobs=3, stream=True
        )
        for entry in (chunk.choices[0].logprobs and chunk.choices[0].logprobs.content) or []
    ]
    assert [each.token for each in streamed] == [each.token for each in logprobs.content]
    # The second time the prompt's rows are in the cache, which can move the last bits.
    for again, first in zip(streamed, logprobs.content, strict=True):
        assert again.logprob == pytest.approx(first.logprob, abs=1e-4)


def test_the_model_is_listed_by_all_its_names(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["talk", "gpt-3.5-turbo"]
    roots = [(model.model_extra or {})["root"] for model in client.models.list()]
    assert roots == ["talk", "gpt-3.5-turbo"], "vllm bench serve reads it"
    assert client.models.retrieve("gpt-3.5-turbo").object == "model"
    reply = client.chat.completions.create(model="gpt-3.5-turbo", messages=asks(CAPITAL[0]))
    assert reply.choices[0].message.content == CAPITAL[1]


def test_errors_have_the_names_of_openai(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no such model") as missing:
        client.chat.completions.create(model="gpt-4", messages=asks("hi"))
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="temperature") as range_error:
        client.chat.completions.create(model="talk", messages=asks("hi"), temperature=-1)
    assert (range_error.value.code, range_error.value.param) == ("invalid_value", "temperature")
    with pytest.raises(openai.BadRequestError) as too_long:
        client.completions.create(model="talk", prompt="word " * 400)
    assert too_long.value.code == "context_length_exceeded"
    assert isinstance(too_long.value.body, dict)
    assert too_long.value.body["n_ctx"] == 384
    assert too_long.value.body["n_prompt_tokens"] > 384
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="talk", input="hi")
