"""Claims about letters that logits decide, read from log-probabilities: exact, or no score."""

import math
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import EvalError
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.toolchain.evals.served import Letters, entry, evaluate_fake, forced, lines
from tests.toolchain.remote.fake_server import Play, answer

SHARES = (0.1, 0.05, 0.2, 0.01, 0.1, 0.3, 0.02, 0.01)  # of A to D with a space, and without
SUMS = [math.log(a * b) for a, b in zip(SHARES[:4], SHARES[4:], strict=True)]


@pytest.fixture
def eight(shared_data: Path) -> Path:
    """A tokenizer that has each letter with a space and without; the miniature has one form."""
    return shared_data / "tokenizer/tokenizer.model"


def letters_of(model: Path) -> dict[int, str]:
    """Ids of the letters, as SHARES has them, and their texts."""
    tokenizer = SentencePieceTokenizer(model)
    ids = [tokenizer.encode(form.format(x))[-1] for form in ("{}", "：{}") for x in "ABCD"]
    return {token_id: tokenizer.token_bytes(token_id).decode() for token_id in ids}


def check_sums(found: list[dict[str, Any]]) -> None:
    assert {line["prediction"] for line in found} == {"B"}
    for line in found:
        assert line["scores"] == pytest.approx(SUMS)


def test_the_letter_of_the_largest_sum_of_both_forms_is_chosen(eight: Path, tmp_path: Path) -> None:
    told = dict(zip(letters_of(eight), map(math.log, SHARES), strict=True))
    fake = Letters(plays=(forced(told.__getitem__),))
    found = evaluate_fake(fake, eight, tmp_path, "alpaca2")
    check_sums(found)
    assert all(body["max_tokens"] == 1 and body["temperature"] == 0 for body in fake.asked)
    assert len(fake.asked) == 9 * len(found)


@pytest.mark.parametrize("form", ["ids", "texts"])
def test_one_request_is_enough_where_all_letters_are_among_the_likeliest(
    form: str, eight: Path, tmp_path: Path
) -> None:
    letters = letters_of(eight)
    assert sorted(letters.values()) == [" A", " B", " C", " D", "A", "B", "C", "D"]
    shares = dict(zip(letters, map(math.log, SHARES), strict=True))
    first = entry(70, "x", -0.1)
    top = [entry(each, "?", shares[each]) for each in letters]
    by_text = {letters[each]: shares[each] for each in letters}
    logprobs: dict[str, dict[str, Any]] = {
        "ids": {"content": [first | {"top_logprobs": top}]},
        "texts": {"tokens": ["x"], "token_logprobs": [-0.1], "top_logprobs": [by_text]},
    }
    play = answer({"choices": [{"text": "x", "logprobs": logprobs[form]}]})
    fake = Letters(plays=(play,))
    found = evaluate_fake(fake, eight, tmp_path, "alpaca2")
    check_sums(found)
    assert len(fake.asked) == len(found)


def test_letters_that_a_server_shows_as_one_are_asked_for_one_by_one(
    eight: Path, tmp_path: Path
) -> None:
    """vLLM drops the space before a letter, so that two tokens have one text."""
    told = dict(zip(letters_of(eight), map(math.log, SHARES), strict=True))
    one_by_one = forced(told.__getitem__)
    merged = {
        "tokens": ["A"],
        "token_logprobs": [-0.1],
        "top_logprobs": [dict.fromkeys("ABCD", -1)],
    }

    def play(handler: Any, body: dict[str, Any]) -> None:
        if "logit_bias" in body:
            one_by_one(handler, body)
        else:
            answer({"choices": [{"text": "A", "logprobs": merged}]})(handler, body)

    fake = Letters(plays=(play,))
    check_sums(evaluate_fake(fake, eight, tmp_path, "alpaca2"))


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (forced(lambda _: -1e-9), "of what logit_bias made; got a sum of "),
        (forced(lambda _: -2.0, lambda _: "A"), "does not give the log-probability of a letter"),
        (forced(lambda _: -9999.0), "gives a log-probability that is none; got -9999"),
        (forced(lambda _: 0.5), "gives a log-probability that is none; got 0.5"),
        (forced(lambda _: float("nan")), "gives a log-probability that is none; got nan"),
        (answer({"choices": [{"text": "A", "logprobs": None}]}), "gives no log-probabilities"),
        (answer({"choices": [{"text": "A", "logprobs": {"tokens": []}}]}), "no log-probabilities"),
        (answer({"choices": []}), "does not answer as OpenAI's API does"),
        (answer({"choices": [{"text": "A"}]}), "does not answer as OpenAI's API does"),
    ],
)
def test_what_cannot_be_read_exactly_is_no_score(
    play: Play, message: str, tokenizer_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(EvalError, match=message) as raised:
        evaluate_fake(Letters(plays=(play,)), tokenizer_model, tmp_path, "alpaca2")
    assert "--style sdk" in str(raised.value)
    assert lines(tmp_path) == []
    assert not (tmp_path / "result.json").exists()
