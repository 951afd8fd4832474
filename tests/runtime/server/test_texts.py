"""No text and no JSON makes the server fail.

`TEXTS=5000 pytest tests/runtime/server/test_texts.py` tries more than the suite.
"""

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving import Serving

TEXTS = int(os.environ.get("TEXTS", "100"))
many = settings(max_examples=TEXTS, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(max_size=60) | st.sampled_from(
    ["</s>", "[INST]", "<<SYS>>", "\x00", "\u202e", "🦙"]
)
lone = st.text(st.sampled_from(["\ud800", "\udbff"]), min_size=1)  # of pairs, the first
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | lone,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
FIELDS = (
    "prompt",
    "messages",
    "model",
    "n",
    "stop",
    "logit_bias",
    "stream_options",
    "seed",
    "echo",
)


def post(server: Serving, path: str, body: Any) -> int:
    """The status of an answer, which is JSON or a stream; surrogates go as escapes."""
    data = json.dumps(body).encode()
    with server.http(headers={"Content-Type": "application/json"}) as http:
        reply = http.post(path, content=data)
    if reply.status_code != 200:
        assert reply.json()["error"]["message"]
    return reply.status_code


@many
@given(text=texts, stream=st.booleans())
def test_any_prompt_is_answered(text: str, stream: bool, talking: Serving) -> None:
    body = {"prompt": text, "max_tokens": 2, "stream": stream, "echo": True}
    assert post(talking, "/v1/completions", body) == (200 if text else 400)


@many
@given(question=texts, system=texts, stop=st.lists(texts, max_size=3))
def test_any_message_is_answered(
    question: str, system: str, stop: list[str], talking: Serving
) -> None:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    body = {"messages": messages, "max_tokens": 2, "stop": stop}
    good = bool(question.strip()) and "" not in stop
    assert post(talking, "/v1/chat/completions", body) == (200 if good else 400)


@many
@given(text=texts, broken=lone)
def test_text_that_is_no_unicode_is_refused(text: str, broken: str, talking: Serving) -> None:
    assert post(talking, "/v1/completions", {"prompt": text + broken}) == 400
    assert post(talking, "/v1/completions", {"prompt": "a", "model": broken}) == 404
    assert post(talking, "/tokenize", {"prompt": broken + text}) == 400


@many
@given(fields=st.dictionaries(st.sampled_from(FIELDS), anything, max_size=5))
def test_no_json_makes_the_server_fail(fields: dict[str, Any], talking: Serving) -> None:
    small = {"prompt": "a", "max_tokens": 1}
    assert post(talking, "/v1/completions", small | fields) in (200, 400, 404)
    chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    assert post(talking, "/v1/chat/completions", chat | fields) in (200, 400, 404)


@many
@given(text=texts)
def test_what_is_tokenized_comes_back(text: str, talking: Serving) -> None:
    with talking.http() as http:
        body = {"prompt": text, "add_special_tokens": False}
        ids = http.post("/tokenize", json=body).json()["tokens"]
        back = http.post("/detokenize", json={"tokens": ids}).json()["prompt"]
    if text not in ("<s>", "</s>", "<unk>"):
        assert back == text.replace("\u2581", " ")
