"""Claims about evaluating a server: the same as on the bundle, or an error that names why not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import EvalError, UserError
from tests.serving import Serving, make_service, ready
from tests.toolchain.evals.oracle import SUBJECTS
from tests.toolchain.evals.served import (
    Letters,
    evaluate_fake,
    evaluation,
    lines,
    on_bundle,
    on_server,
    over_http,
)
from tests.toolchain.remote.fake_server import Fake, Play, answer, fake_server, stream
from toolchain.evals.over_http import (
    check_readable,
)
from toolchain.evals.styles import STYLES

BUNDLE = "talk-fp32"  # int4 makes of a last bit more than one


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
