"""Claims about evaluating a server: the same as on the bundle, or an error that names why not."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.reader import load_bundle
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Scheduler
from runtime.errors import EvalError, UserError
from runtime.sessions import open_session
from runtime.text.tokenizer import Tokenizer, open_tokenizer
from tests.paths import DATA
from tests.serving import Serving, make_service, ready
from tests.toolchain.evals.oracle import SUBJECTS
from tests.toolchain.remote.fake_server import Fake, Play, answer, fake_server, stream
from toolchain.evals.evaluation import BENCHMARKS, Evaluation
from toolchain.evals.examine import Effort, examine
from toolchain.evals.examinee import OnBundle, describe_bundle
from toolchain.evals.over_http import (
    PROBE,
    OverHTTP,
    check_readable,
    examine_server,
    read_tokenizer,
)
from toolchain.evals.results import EvalResult
from toolchain.evals.styles import STYLES
from toolchain.remote.address import Address
from toolchain.remote.server import open_server

BUNDLE = "talk-fp32"  # int4 makes of a last bit more than one


def evaluation(style: str, subjects: tuple[str, ...] = SUBJECTS, shots: int = 2) -> Evaluation:
    return Evaluation(
        benchmark=BENCHMARKS["ceval"],
        data=DATA / "ceval",
        style=style,
        shots=shots,
        subjects=subjects,
    )


def lines(output: Path) -> list[dict[str, Any]]:
    [log] = output.glob("log-*.jsonl")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[1:]]


@contextmanager
def on_server(url: str, tokenizer: Path, concurrency: int = 1) -> Iterator[OverHTTP]:
    with open_server(Address(root=url, timeout=60), lambda _: None) as server:
        yield examine_server(server, None, read_tokenizer(tokenizer), None, concurrency)


def over_http(
    url: str, tokenizer: Path, asked: Evaluation, output: Path, concurrency: int = 1
) -> tuple[EvalResult, Effort]:
    with on_server(url, tokenizer, concurrency) as examinee:
        return examine(asked, examinee, output, None)


def on_bundle(bundle: Path, asked: Evaluation, output: Path) -> EvalResult:
    loaded = load_bundle(bundle)
    with closing(open_session(loaded)) as session:
        examinee = OnBundle(
            scheduler=Scheduler(Engine(session)),
            tokenizer=open_tokenizer(loaded),
            described=describe_bundle(loaded),
        )
        return examine(asked, examinee, output, None)[0]


@pytest.fixture(scope="module")
def serving(bundles: Path) -> Iterator[Serving]:
    with ready(make_service(bundles / BUNDLE)) as server:
        yield server


@pytest.mark.parametrize("concurrency", [1, 6])
@pytest.mark.parametrize("style", ["sdk", "alpaca2"])
def test_a_server_scores_as_the_bundle_that_it_serves(
    style: str, concurrency: int, serving: Serving, bundles: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    expected = on_bundle(bundles / BUNDLE, evaluation(style), here)
    found, effort = over_http(serving.url, bundles / BUNDLE, evaluation(style), there, concurrency)
    assert found.categories == expected.categories
    assert (found.subjects, found.too_long) == (expected.subjects, expected.too_long)
    assert (found.shortened, found.settings) == (expected.shortened, expected.settings)
    assert (effort.asked, effort.computed_tokens) == (len(lines(here)), None)
    assert found.bundle["manifest_sha256"] == expected.bundle["manifest_sha256"]
    for one, other in zip(lines(here), lines(there), strict=True):
        one_scores, other_scores = one.pop("scores"), other.pop("scores")
        assert one == other
        for a, b in zip(one_scores, other_scores, strict=True):  # all by the same number apart
            assert a - one_scores[0] == pytest.approx(b - other_scores[0], abs=1e-3)
    assert sum(line["prediction"] != "-1" for line in lines(there)) > 5


def test_an_unfinished_run_goes_on_and_asks_only_what_is_missing(
    serving: Serving, bundles: Path, tmp_path: Path
) -> None:
    chosen = (serving.url, bundles / BUNDLE)
    over_http(*chosen, evaluation("sdk", SUBJECTS[:2]), tmp_path)
    known = len(lines(tmp_path))
    _, effort = over_http(*chosen, evaluation("sdk"), tmp_path, 3)
    assert effort.resumed == known > 0
    assert effort.asked == len(lines(tmp_path)) - known > 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    result, effort = over_http(*chosen, evaluation("sdk"), tmp_path)
    assert effort.asked == 0
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert result.bundle["url"] == serving.url


def ids_of(model: Path) -> tuple[Tokenizer, dict[str, Any]]:
    tokenizer = Tokenizer(model)
    return tokenizer, {"/tokenize": {"tokens": tokenizer.encode(PROBE)}}


def entry(token_id: int, text: str, logprob: float) -> dict[str, Any]:
    return {"id": token_id, "token": text, "logprob": logprob}


def forced(logprob: Callable[[int], float], text: Callable[[str], str] = str) -> Play:
    """A server that shows no likeliest tokens but follows logit_bias, in llama.cpp's words."""

    def play(handler: Any, body: dict[str, Any]) -> None:
        first = entry(70, "x", -0.1) | {"top_logprobs": []}
        for token_id in map(int, body.get("logit_bias", {})):
            token = text(handler.fake.tokenizer.token_bytes(token_id).decode())
            first = entry(token_id, token, logprob(token_id))
        answer({"choices": [{"text": "", "logprobs": {"content": [first]}}]})(handler, body)

    return play


class Letters(Fake):
    tokenizer: Tokenizer


def evaluate_fake(fake: Letters, model: Path, output: Path, style: str) -> list[dict[str, Any]]:
    fake.tokenizer, fake.others = ids_of(model)
    fake.models = ({"id": "fake", "max_model_len": 2048},)
    with fake_server(fake) as url:
        over_http(url, model, evaluation(style, ("law",), 0), output)
    return lines(output)


SHARES = (0.1, 0.05, 0.2, 0.01, 0.1, 0.3, 0.02, 0.01)  # of A to D with a space, and without
SUMS = [math.log(a * b) for a, b in zip(SHARES[:4], SHARES[4:], strict=True)]


@pytest.fixture
def eight(shared_data: Path) -> Path:
    """A tokenizer that has each letter with a space and without; the miniature has one form."""
    return shared_data / "tokenizer/tokenizer.model"


def letters_of(model: Path) -> dict[int, str]:
    """Ids of the letters, as SHARES has them, and their texts."""
    tokenizer = Tokenizer(model)
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


def test_a_stream_is_left_at_its_letter_and_read_to_its_end_without_one(
    tokenizer_model: Path, tmp_path: Path
) -> None:
    plays = (
        stream(" ", "答案：", "B", "C", cut=True),  # what follows the letter is not read
        stream("一", "二", usage=False),
        stream("x", done=False),
    )
    found = evaluate_fake(Letters(plays=plays), tokenizer_model, tmp_path, "sdk")
    assert [(line["prediction"], line["text"]) for line in found] == [
        ("B", " 答案：B"),
        ("-1", "一二"),
        *[("X", "x")] * (len(found) - 2),
    ]


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (stream("一", done=False), "ended a stream before its last event"),
        (stream("一", done=False, cut=True), "disconnected"),
        (stream("一", error="broken"), "stream error; got broken"),
        (answer({"choices": []}), "ended a stream before its last event"),
    ],
)
def test_a_stream_that_is_not_whole_is_no_answer(
    play: Play, message: str, tokenizer_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_fake(Letters(plays=(play,)), tokenizer_model, tmp_path, "sdk")
    assert lines(tmp_path) == []


def test_another_tokenizer_and_a_silent_context_are_named(tokenizer_model: Path) -> None:
    with (
        fake_server(Fake(others={"/tokenize": {"tokens": [1, 2]}})) as url,
        pytest.raises(EvalError, match="has another tokenizer; got ids"),
        on_server(url, tokenizer_model),
    ):
        pass
    with (
        fake_server(Fake(models=({"id": "fake"},))) as url,
        pytest.raises(EvalError, match=r"does not say how many tokens .* --context-len"),
        on_server(url, tokenizer_model),
    ):
        pass
    props = {"/props": {"default_generation_settings": {"n_ctx": 300}}}
    with (
        fake_server(Fake(models=({"id": "fake"},), others=props)) as url,
        on_server(url, tokenizer_model) as examinee,
    ):
        assert examinee.context_len == 300
        assert examinee.identity["server"] == url


def test_a_style_that_needs_logits_is_refused() -> None:
    with pytest.raises(EvalError, match="log-probabilities only; got repetition_penalty"):
        check_readable(STYLES["alpaca2-official"])
    for style in ("sdk", "alpaca2"):
        check_readable(STYLES[style])
