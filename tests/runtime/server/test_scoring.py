"""What lm-evaluation-harness reads of log-probabilities; it needs them exact."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.bundle.reader import load_bundle
from runtime.engine.engine import Engine
from runtime.engine.sequence import Logprobs, Token
from runtime.server.logprobs import LegacyReport, chat_report
from runtime.sessions import open_session
from tests.serving import Serving

VOCAB = 640


def harness(prompts: list[list[int]]) -> dict[str, Any]:
    """The very request of `local-completions` for log-likelihoods."""
    return {
        "model": "talk",
        "prompt": prompts,
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }


def read(choice: dict[str, Any], context: int) -> tuple[float, bool]:
    """As the harness does: the sum after the context, and whether each was the likeliest."""
    logprobs = choice["logprobs"]
    token_logprobs = logprobs["token_logprobs"][context:-1]
    tops = logprobs["top_logprobs"][context:-1]
    greedy = all(
        logprob == max(top.values()) for logprob, top in zip(token_logprobs, tops, strict=True)
    )
    return sum(token_logprobs), greedy


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


@pytest.fixture(scope="module")
def engine(bundles: Path) -> Any:
    return Engine(open_session(load_bundle(bundles / "talk-int4")), reuse_prefix=False)


def scored(engine: Engine, ids: list[int]) -> NDArray[np.float64]:
    """Log-probabilities after every token, (n, V), by the engine itself."""
    with engine.slot(ids) as slot:
        slot.truncate(0)
        return log_softmax(np.concatenate(list(engine.score(slot, ids))))


def test_the_harness_reads_what_the_model_says(talking: Serving, engine: Engine) -> None:
    rng = Random(0)
    with talking.http() as http:
        tokenized = http.post("/tokenize", json={"prompt": "北京是中国的首都，也是全国的"}).json()
        prompts = [
            rng.choices(range(3, VOCAB), k=rng.choice([2, 7, 64, 65, 150])) for _ in range(6)
        ]
        prompts.append(tokenized["tokens"])
        choices = http.post("/v1/completions", json=harness(prompts)).json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(len(prompts)))
    for ids, choice in zip(prompts, choices, strict=True):
        logprobs = choice["logprobs"]
        assert {len(values) for values in logprobs.values()} == {len(ids) + 1}, "no BOS was added"
        assert logprobs["token_logprobs"][0] is logprobs["top_logprobs"][0] is None
        expected = scored(engine, ids)
        context = len(ids) // 2
        rows, following = expected[context - 1 : -1], ids[context:]
        total = sum(row[token] for row, token in zip(rows, following, strict=True))
        greedy = all(row.argmax() == token for row, token in zip(rows, following, strict=True))
        told, told_greedy = read(choice, context)
        assert told == pytest.approx(total, abs=1e-5)
        assert told_greedy == greedy


def test_the_likeliest_token_is_told_from_all_others(talking: Serving, engine: Engine) -> None:
    """A greedy continuation is read as greedy, and one with another last token is not."""
    with talking.http() as http:
        ids = http.post("/tokenize", json={"prompt": "An edge box is a small"}).json()["tokens"]
        for _ in range(5):
            ids.append(int(scored(engine, ids)[-1].argmax()))
        other = [*ids[:-1], 7 if ids[-1] != 7 else 8]
        good, bad = http.post("/v1/completions", json=harness([ids, other])).json()["choices"]
    for choice in (good, bad):
        logprobs = choice["logprobs"]["token_logprobs"][1:]
        tops = choice["logprobs"]["top_logprobs"][1:]
        assert all(each in top.values() for each, top in zip(logprobs, tops, strict=True))
    assert read(good, len(ids) - 5)[1]
    assert not read(bad, len(ids) - 5)[1]


def test_parts_of_characters_have_keys_of_their_own(talking: Serving) -> None:
    """As plain text all of them would be one key, and the likeliest would be lost among them."""
    with talking.http() as http:
        ids = http.post("/tokenize", json={"prompt": "🦙"}).json()["tokens"]
        body = harness([ids]) | {"logprobs": 20}
        logprobs = http.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]
    assert logprobs["tokens"][-5:-1] == [r"bytes:\xf0", r"bytes:\x9f", r"bytes:\xa6", r"bytes:\x99"]
    assert logprobs["text_offset"][-5:] == [logprobs["text_offset"][-2]] * 4 + [
        logprobs["text_offset"][-2] + 1
    ]
    assert all(len(top) in (20, 21) for top in logprobs["top_logprobs"][1:])


def test_a_text_is_echoed_to_the_letter_with_its_offsets(talking: Serving) -> None:
    text = " An  edge 北京\n🦙box"
    with talking.http() as http:
        body = {"prompt": text, "echo": True, "logprobs": 0, "max_tokens": 3, "temperature": 0}
        choice = http.post("/v1/completions", json=body).json()["choices"][0]
        none = http.post("/v1/completions", json=body | {"max_tokens": 0}).json()
    assert choice["text"].startswith(text)
    logprobs = choice["logprobs"]
    assert logprobs["tokens"][0] == "<s>", "a text has a BOS unless add_special_tokens is false"
    for token, start in zip(logprobs["tokens"][2:], logprobs["text_offset"][2:], strict=True):
        if not token.startswith(("bytes:", "</s>")):
            assert choice["text"][start:].startswith(token)
    assert none["choices"][0]["text"] == text
    assert none["usage"]["completion_tokens"] == 0
    assert len(none["choices"][0]["logprobs"]["tokens"]) == none["usage"]["prompt_tokens"]


def test_a_text_without_special_tokens_has_no_bos(talking: Serving) -> None:
    with talking.http() as http:
        body = {"prompt": "An edge", "max_tokens": 1}
        with_bos = http.post("/v1/completions", json=body).json()["usage"]["prompt_tokens"]
        without = http.post("/v1/completions", json=body | {"add_special_tokens": False}).json()
    assert without["usage"]["prompt_tokens"] == with_bos - 1


def test_what_is_impossible_is_a_number_that_json_has(talking: Serving) -> None:
    """JSON has no infinity; a bias or a mask may make one of a logit."""
    tokenizer = talking.service.model().tokenizer
    impossible = Logprobs(logprob=-np.inf, top=[(5, -0.1), (6, -np.inf)])
    token = Token(
        id=6,
        finish_reason=None,
        stop_reason=None,
        logprobs=impossible,
        logits_at=0.0,
        sampled_at=0.0,
    )
    chat = chat_report(tokenizer, [token])
    assert chat is not None
    assert chat.content[0].logprob == chat.content[0].top_logprobs[1].logprob == -9999.0
    legacy = LegacyReport(tokenizer, at_start=False).answer([token])
    assert legacy is not None
    assert legacy.token_logprobs == [-9999.0]
