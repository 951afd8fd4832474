"""LangChain: ChatOpenAI and OpenAI, whole, streamed, in batches, and bound to a class."""

import asyncio
from typing import Any, Literal

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, ConfigDict

from tests.clients.conftest import Server
from tests.dialogues import AGAIN, BOX, CAPITAL, LLAMA, RAW, STEPS

DIALOGUES = [CAPITAL, BOX, LLAMA, STEPS]


class City(BaseModel):
    """What a program wants to know."""

    model_config = ConfigDict(extra="forbid")
    name: Literal["北京", "上海"]
    capital: bool


def chat(server: Server, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="talk", base_url=server.api, **options)


def text(server: Server, **options: Any) -> OpenAI:
    return OpenAI(model="talk", base_url=server.api, temperature=0, max_tokens=40, **options)


def test_a_question_has_its_answer(server: Server) -> None:
    reply = chat(server).invoke(CAPITAL[0])
    assert reply.content == CAPITAL[1]
    assert reply.response_metadata["finish_reason"] == "stop"
    assert reply.response_metadata["model_name"] == "talk"
    usage = reply.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_a_conversation_goes_on(server: Server) -> None:
    system = SystemMessage("You are a helpful assistant. 你是一个乐于助人的助手。")
    turns = [HumanMessage(STEPS[0]), AIMessage(STEPS[1]), HumanMessage(AGAIN[0])]
    assert chat(server).invoke([system, *turns]).content == AGAIN[1]


@pytest.mark.parametrize("stream_usage", [False, True])
def test_a_stream_says_the_same(stream_usage: bool, server: Server) -> None:
    model = chat(server, stream_usage=stream_usage)
    for question, answer in DIALOGUES:
        whole, *chunks = model.stream(question)
        for chunk in chunks:
            whole += chunk
        assert whole.content == answer
        assert whole.response_metadata["finish_reason"] == "stop"
        plain = model.invoke(question)
        assert (whole.usage_metadata == plain.usage_metadata) == stream_usage


def test_many_at_once_each_have_their_own_answer(server: Server) -> None:
    model = chat(server)
    asked = [question for question, _ in DIALOGUES * 4]
    answers = [answer for _, answer in DIALOGUES * 4]
    assert [reply.content for reply in model.batch(asked)] == answers

    async def stream(question: str) -> str:
        return "".join([chunk.content async for chunk in model.astream(question)])

    async def streams() -> list[str]:
        return await asyncio.gather(*map(stream, asked))

    assert asyncio.run(streams()) == answers


def test_an_answer_is_an_object_of_a_class(server: Server) -> None:
    """`json_schema` is what LangChain does unless told otherwise."""
    bound = chat(server, max_tokens=300).with_structured_output(City, include_raw=True)
    told = bound.invoke(CAPITAL[0])
    assert told["parsing_error"] is None
    assert isinstance(told["parsed"], City)
    assert told["raw"].response_metadata["finish_reason"] == "stop"


def test_a_stream_is_an_object_of_a_class_in_the_end(server: Server) -> None:
    bound = chat(server, max_tokens=300).with_structured_output(City)
    *_, last = bound.stream(CAPITAL[0])
    assert isinstance(last, City)


def test_forms_that_the_model_does_not_know_are_refused(server: Server) -> None:
    """Through a tool call: a model of this family makes none."""
    bound = chat(server).with_structured_output(City, method="function_calling")
    with pytest.raises(openai.BadRequestError) as refused:
        bound.invoke(CAPITAL[0])
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tool_choice")


def test_tools_that_need_not_be_called_are_not(server: Server) -> None:
    reply = chat(server).bind_tools([City]).invoke(CAPITAL[0])
    assert (reply.content, reply.tool_calls) == (CAPITAL[1], [])


def test_log_probabilities_and_stops_come_through(server: Server) -> None:
    reply = chat(server).bind(logprobs=True, top_logprobs=2, stop=[" computer"]).invoke(BOX[0])
    assert reply.content == BOX[1].split(" computer")[0]
    told = reply.response_metadata["logprobs"]["content"]
    assert all(len(token["top_logprobs"]) == 2 for token in told)


def test_a_text_goes_on(server: Server) -> None:
    model = text(server)
    prompts = [RAW.format(question) for question, _ in DIALOGUES]
    answers = [answer for _, answer in DIALOGUES]
    assert [model.invoke(prompt).strip() for prompt in prompts] == answers
    assert ["".join(model.stream(prompt)).strip() for prompt in prompts] == answers
    assert [told.strip() for told in model.batch(prompts)] == answers


def test_texts_have_several_answers_with_log_probabilities(server: Server) -> None:
    model = text(server, n=2, logprobs=3, seed=1)
    told = model.generate(["An edge", "北京"])
    assert [len(choices) for choices in told.generations] == [2, 2]
    for choices in told.generations:
        assert choices[0].text == choices[1].text, "greedy"
        for choice in choices:
            logprobs = choice.generation_info["logprobs"]
            assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) > 0
    usage = told.llm_output["token_usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_errors_are_those_of_openai(server: Server) -> None:
    with pytest.raises(openai.NotFoundError):
        ChatOpenAI(model="gpt-4", base_url=server.api).invoke("hi")
    with pytest.raises(openai.AuthenticationError):
        chat(server, api_key="not-the-key").invoke("hi")
    with pytest.raises(openai.BadRequestError) as too_long:
        chat(server).invoke("word " * 400)
    assert too_long.value.code == "context_length_exceeded"
