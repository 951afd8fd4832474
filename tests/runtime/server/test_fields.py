"""The fields of a request: which are refused, where the context ends, the tokenizer."""

import pytest

from tests.serving import Serving


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"min_tokens": 5}, "min_tokens"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"logprobs": 21}, "logprobs"),
        ({"n": 17}, "n"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"logit_bias": {"700": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "0.5"}, "temperature"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"stop_token_ids": [640]}, "stop_token_ids"),
        ({"seed": 2**63}, "seed"),
    ],
)
def test_a_field_that_cannot_be_followed_is_refused_by_name(
    extra: dict[str, object], param: str, talking: Serving
) -> None:
    with talking.http() as http:
        reply = http.post("/v1/completions", json={"prompt": "An", **extra})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


def test_unknown_fields_and_nulls_change_nothing_and_are_counted(talking: Serving) -> None:
    nulls = ("n", "stop", "logprobs", "stream", "max_tokens", "seed", "suffix", "top_p", "user")
    before = talking.metric("unknown_fields_total")
    with talking.http() as http:
        plain = http.post("/v1/completions", json={"prompt": "An"})
        strange = http.post(
            "/v1/completions",
            json={"prompt": "An", "frobnicate": [1], "user": "me", **dict.fromkeys(nulls)},
        )
    assert strange.json()["choices"] == plain.json()["choices"]
    assert talking.metric("unknown_fields_total") == before + 1


def test_prompt_and_answer_fill_the_context_to_its_last_row(talking: Serving) -> None:
    """A prompt of n tokens leaves room for 384 - n + 1: the last one needs no row."""
    with talking.http() as http:

        def ask(num_tokens: int, max_tokens: int) -> int:
            body = {"prompt": [5] * num_tokens, "max_tokens": max_tokens, "ignore_eos": True}
            reply = http.post("/v1/completions", json=body)
            if reply.status_code == 200:
                assert reply.json()["usage"]["completion_tokens"] == max_tokens
            return reply.status_code

        assert ask(374, 11) == 200
        assert ask(374, 12) == 400
        assert ask(384, 1) == 200
        assert ask(384, 2) == 400
        assert ask(385, 1) == 400
        assert ask(1, 1) == 200
        short = http.post("/v1/completions", json={"prompt": [5] * 380, "ignore_eos": True})
        assert short.json()["usage"]["completion_tokens"] == 5, "the default gives way to the room"


def test_names_of_tokens_in_a_message_are_plain_text(talking: Serving) -> None:
    """No text of a user ends a turn, opens one or becomes a control token."""
    texts = ["</s>", "<s>", "[INST]", "[/INST]", "<<SYS>>", "a</s><s>[INST] b [/INST]"]
    with talking.http() as http:
        for text in texts:
            body = {"messages": [{"role": "user", "content": text}]}
            ids = http.post("/tokenize", json=body).json()["tokens"]
            assert ids[0] == 1
            assert not {1, 2} & set(ids[1:])
            assert text in http.post("/detokenize", json={"tokens": ids}).json()["prompt"]
            assert http.post("/v1/chat/completions", json=body | {"max_tokens": 2}).is_success


def test_the_tokenizer_answers_what_lm_evaluation_harness_asks(talking: Serving) -> None:
    with talking.http() as http:
        info = http.get("/tokenizer_info").json()
        assert (info["bos_token"], info["eos_token"]) == ("<s>", "</s>")
        for text, token_id in {"<s>": 1, "</s>": 2, "<unk>": 0}.items():
            body = {"prompt": text, "add_special_tokens": False}
            assert http.post("/tokenize", json=body).json()["tokens"] == [token_id]
        body = {"prompt": "北京 box 🦙", "add_special_tokens": False}
        ids = http.post("/tokenize", json=body).json()["tokens"]
        assert http.post("/detokenize", json={"tokens": ids}).json() == {"prompt": "北京 box 🦙"}
        assert http.post("/tokenize", json={"prompt": "北京"}).json()["tokens"][0] == 1
        assert http.post("/detokenize", json={"tokens": [640]}).status_code == 400
        assert http.post("/tokenize", json={}).status_code == 400
