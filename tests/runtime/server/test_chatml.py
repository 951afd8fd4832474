"""Claims about a server whose model has a tokenizer.json and a template of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.text.template import Message, encode_chat
from tests.serving import Serving, make_service, ready

pytest.importorskip("tokenizers", reason="the extra hf is not installed")
pytest.importorskip("jinja2", reason="the extra hf is not installed")

ASK: list[Any] = [{"role": "user", "content": "你好🦙 <|im_end|> world"}]
SCHEMA = {
    "type": "object",
    "properties": {"城市": {"enum": ["北京", "上海"]}, "ok": {"type": "boolean"}},
    "required": ["城市", "ok"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def chatml(bundles: Path) -> Iterator[Serving]:
    with ready(make_service(bundles / "chatml-fp32", model_names=("chatml",))) as server:
        yield server


def test_a_streamed_answer_has_the_text_of_a_whole_one(chatml: Serving) -> None:
    with chatml.openai() as client:
        asked: dict[str, Any] = {"model": "chatml", "messages": ASK, "max_tokens": 48}
        whole = client.chat.completions.create(**asked, temperature=1.5, seed=5)
        pieces = [
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(
                **asked, temperature=1.5, seed=5, stream=True
            )
            if chunk.choices
        ]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 2


def test_an_answer_can_be_bound_to_a_schema(chatml: Serving) -> None:
    pytest.importorskip("llguidance", reason="the extra constrain is not installed")
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
    body = {"messages": ASK, "max_tokens": 200, "response_format": form, "n": 3, "seed": 1}
    with chatml.http() as http:
        reply = http.post("/v1/chat/completions", json={**body, "temperature": 1.2}).json()
    for choice in reply["choices"]:
        assert choice["finish_reason"] == "stop"
        said = json.loads(choice["message"]["content"])
        assert said["城市"] in ("北京", "上海")
        assert said["ok"] in (True, False)


def test_logprobs_have_the_bytes_of_the_answer(chatml: Serving) -> None:
    with chatml.openai() as client:
        made = client.chat.completions.create(
            model="chatml", messages=ASK, max_tokens=24, logprobs=True, top_logprobs=3
        )
    [choice] = made.choices
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    data = b"".join(bytes(each.bytes or ()) for each in choice.logprobs.content)
    assert data.decode(errors="replace") == choice.message.content


def test_messages_are_tokenized_by_the_template(chatml: Serving) -> None:
    tokenizer = chatml.service.model().tokenizer
    messages = [Message.model_validate(message) for message in ASK]
    with chatml.http() as http:
        tokens = http.post("/tokenize", json={"messages": ASK}).json()["tokens"]
        shown = http.post("/detokenize", json={"tokens": tokens}).json()["prompt"]
    assert tokens == encode_chat(tokenizer, messages)
    end = tokenizer.control_tokens["<|im_end|>"]
    assert tokens.count(end) == 2  # of the template's own system message and of the question
    assert ASK[0]["content"] in shown


def test_a_text_without_bos_is_tokenized_as_it_is(chatml: Serving) -> None:
    with chatml.http() as http:
        replies = [
            http.post("/tokenize", json={"prompt": "hello", "add_special_tokens": add}).json()
            for add in (True, False)
        ]
        name = http.post("/tokenize", json={"prompt": "<|im_end|>"}).json()["tokens"]
        info = http.get("/tokenizer_info").json()
        empty = http.post("/tokenize", json={"prompt": ""}).json()["tokens"]
    assert replies[0] == replies[1]
    assert name == [chatml.service.model().tokenizer.eos_token_id]
    assert (info["bos_token"], info["eos_token"]) == (None, "<|im_end|>")
    assert info["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert empty == []


def test_the_order_of_roles_is_the_template_s_to_say(chatml: Serving) -> None:
    with chatml.http() as http:
        body = {"messages": [*ASK, *ASK], "max_tokens": 1}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
