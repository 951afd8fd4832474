"""llama-index's OpenAILike: texts and chats, whole and streamed, and bound to a class."""

import asyncio
from typing import Any, Literal

import openai
import pytest
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, ConfigDict

from tests.clients.conftest import Server
from tests.dialogues import AGAIN, BOX, CAPITAL, LLAMA, RAW, STEPS

DIALOGUES = [CAPITAL, BOX, LLAMA, STEPS]


class City(BaseModel):
    """What a program wants to know."""

    model_config = ConfigDict(extra="forbid")
    name: Literal["北京", "上海"]
    capital: bool


def model(server: Server, **options: Any) -> OpenAILike:
    """With what docs/serve.md says to give it."""
    return OpenAILike(
        model="talk", api_base=server.api, api_key=server.key, timeout=600, temperature=0, **options
    )


def user(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=text)


@pytest.mark.parametrize(("question", "answer"), DIALOGUES, ids=lambda text: text[:12])
def test_a_text_goes_on(question: str, answer: str, server: Server) -> None:
    llm = model(server, max_tokens=40)
    prompt = RAW.format(question)
    assert llm.complete(prompt).text.strip() == answer
    *_, last = streamed = list(llm.stream_complete(prompt))
    assert last.text.strip() == answer
    assert "".join(chunk.delta for chunk in streamed) == last.text


@pytest.mark.parametrize(("question", "answer"), DIALOGUES, ids=lambda text: text[:12])
def test_a_question_has_its_answer(question: str, answer: str, server: Server) -> None:
    llm = model(server, is_chat_model=True)
    assert llm.chat([user(question)]).message.content == answer
    *_, last = streamed = list(llm.stream_chat([user(question)]))
    assert last.message.content == answer
    assert "".join(chunk.delta for chunk in streamed) == answer
    assert llm.complete(question).text == answer, "a text is a message to a chat model"


def test_a_conversation_goes_on(server: Server) -> None:
    told = ChatMessage(role=MessageRole.ASSISTANT, content=STEPS[1])
    reply = model(server, is_chat_model=True).chat([user(STEPS[0]), told, user(AGAIN[0])])
    assert reply.message.content == AGAIN[1]


def test_many_at_once_each_have_their_own_answer(server: Server) -> None:
    llm = model(server, is_chat_model=True)

    async def stream(question: str) -> str:
        parts = await llm.astream_chat([user(question)])
        return "".join([chunk.delta async for chunk in parts])

    async def whole(question: str) -> str:
        return (await llm.achat([user(question)])).message.content or ""

    async def all_at_once() -> list[str]:
        return await asyncio.gather(
            *(ask(question) for question, _ in DIALOGUES * 2 for ask in (stream, whole))
        )

    expected = [answer for _, answer in DIALOGUES * 2 for _ in range(2)]
    assert asyncio.run(all_at_once()) == expected


def test_an_answer_is_an_object_of_a_class(server: Server) -> None:
    llm = model(server, is_chat_model=True, should_use_structured_outputs=True, max_tokens=300)
    assert isinstance(llm.structured_predict(City, PromptTemplate(CAPITAL[0])), City)


def test_a_class_through_a_tool_call_is_refused(server: Server) -> None:
    """It is what OpenAILike does unless told otherwise; a model of this family makes no calls."""
    llm = model(server, is_chat_model=True, is_function_calling_model=True)
    with pytest.raises(openai.BadRequestError) as refused:
        llm.structured_predict(City, PromptTemplate(CAPITAL[0]))
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tool_choice")
