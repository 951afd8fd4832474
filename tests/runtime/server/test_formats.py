"""Claims about response_format: the answer is of that form, whatever the model would say."""

import json
from typing import Literal

import jsonschema
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, ConfigDict

from tests.serving import Serving

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "北京在哪里？"}]
SCHEMA = {
    "type": "object",
    "properties": {"城市": {"enum": ["北京", "上海"]}, "ok": {"type": "boolean"}},
    "required": ["城市", "ok"],
    "additionalProperties": False,
}


class City(BaseModel):
    """What a client wants to know."""

    model_config = ConfigDict(extra="forbid")
    name: Literal["北京", "上海"]
    capital: bool


def body(schema: object, **more: object) -> dict[str, object]:
    given = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    return {"messages": MESSAGES, "max_tokens": 320, "response_format": given, **more}


def test_openais_client_parses_the_answer_into_its_own_class(talking: Serving) -> None:
    with talking.openai() as client:
        reply = client.chat.completions.parse(
            model="talk", messages=MESSAGES, response_format=City, max_tokens=320
        )
    [choice] = reply.choices
    assert choice.finish_reason == "stop"
    assert isinstance(choice.message.parsed, City)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_several_sampled_answers_are_all_of_the_schema(
    seed: int, stream: bool, talking: Serving
) -> None:
    with talking.http() as http:
        asked = body(SCHEMA, n=3, temperature=1.5, seed=seed, stream=stream)
        reply = http.post("/v1/chat/completions", json=asked)
    assert reply.status_code == 200
    texts = ["", "", ""]
    if stream:
        events = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
        for event in map(json.loads, events):
            for choice in event["choices"]:
                texts[choice["index"]] += choice["delta"].get("content") or ""
    else:
        texts = [choice["message"]["content"] for choice in reply.json()["choices"]]
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMA)


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"type": "nothing"}, "invalid_json_schema"),
        ({"$ref": "#/nowhere"}, "invalid_json_schema"),
        (None, "invalid_json_schema"),
        ("text", "invalid_json_schema"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused_by_name(
    schema: object, code: str, talking: Serving
) -> None:
    with talking.http() as http:
        reply = http.post("/v1/chat/completions", json=body(schema))
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["param"], error["code"]) == ("response_format", code)


def test_json_object_is_an_object(talking: Serving) -> None:
    with talking.http() as http:
        free = {"type": "json_object"}
        asked = {"messages": MESSAGES, "max_tokens": 200, "response_format": free}
        [choice] = http.post("/v1/chat/completions", json=asked).json()["choices"]
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(choice["message"]["content"]), dict)
    else:
        assert choice["message"]["content"].lstrip().startswith("{")
