"""Claims about runtime.completion: the miniature answers word for word, streamed or cut short."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.bundle.reader import TOKENIZER, load_bundle
from runtime.completion import (
    Completion,
    CompletionChunk,
    Prompt,
    complete,
    complete_many,
    stream_completion,
)
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Scheduler
from runtime.errors import ParameterError, PromptError
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.stop_strings import StopStrings
from runtime.text.template import Message
from runtime.text.tokenizer import Tokenizer
from runtime.timing import Stopwatch
from tests.dialogues import AGAIN, AGAIN_ALONE, CAPITAL, LLAMA, RAW, STEPS

EOS = 2


@dataclass(frozen=True, slots=True)
class Model:
    scheduler: Scheduler
    tokenizer: Tokenizer

    def stream(
        self, prompt: Prompt, *stop: str, max_tokens: int | None = None
    ) -> Generator[CompletionChunk, None, None]:
        params = SamplingParams(stop_token_ids=(EOS,), max_tokens=max_tokens)
        return stream_completion(self.scheduler, self.tokenizer, prompt, params, stop)

    def complete(self, prompt: Prompt, *stop: str, max_tokens: int | None = None) -> Completion:
        params = SamplingParams(stop_token_ids=(EOS,), max_tokens=max_tokens)
        return complete(self.scheduler, self.tokenizer, prompt, params, stop)


@pytest.fixture(scope="module", params=["talk-fp32", "talk-int4", "talk-int4-kv8"])
def model(request: pytest.FixtureRequest, bundles: Path) -> Iterator[Model]:
    bundle = load_bundle(bundles / request.param)
    with closing(open_session(bundle)) as session:
        yield Model(Scheduler(Engine(session)), SentencePieceTokenizer(bundle.file(TOKENIZER)))


def asked(*texts: str) -> list[Message]:
    """User and assistant in turn."""
    return [
        Message(role="assistant" if i % 2 else "user", content=text) for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize("dialogue", [CAPITAL, LLAMA, STEPS])
def test_a_question_gets_its_answer_word_for_word_in_whole_characters(
    dialogue: tuple[str, str], model: Model
) -> None:
    question, answer = dialogue
    chunks = list(model.stream(asked(question)))
    assert "".join(chunk.text for chunk in chunks) == answer
    assert not any("\ufffd" in chunk.text for chunk in chunks)
    assert len([chunk for chunk in chunks if chunk.text]) > 5
    *rest, last = chunks
    assert [chunk.completion for chunk in rest] == [None] * len(rest)
    assert last.completion is not None
    assert last.completion.text == answer
    assert last.completion.token_ids == [chunk.token.id for chunk in chunks]
    assert last.token.id == EOS


def test_the_second_turn_depends_on_the_first_and_reuses_its_rows(model: Model) -> None:
    assert model.complete(asked(AGAIN[0])).text == AGAIN_ALONE[1]
    first = model.complete(asked(STEPS[0]))
    hits = model.scheduler.engine.prefix_hits
    assert model.complete(asked(*STEPS, AGAIN[0])).text == AGAIN[1]
    assert model.scheduler.engine.prefix_hits - hits >= first.prompt_tokens


def test_a_plain_text_is_continued_without_a_template(model: Model) -> None:
    text = RAW.format(CAPITAL[0])
    raw, chat = model.complete(text), model.complete(asked(CAPITAL[0]))
    # Going on with a text, the space before the first word counts.
    assert (raw.text, raw.token_ids) == (f" {chat.text}", chat.token_ids)
    for completion in (raw, chat):
        assert completion.prompt_tokens == 1 + len(model.tokenizer.encode(text))
    assert model.complete("北京", max_tokens=1).prompt_tokens == 1 + len(
        model.tokenizer.encode("北京")
    )


@pytest.mark.parametrize("prompt", ["", [], asked("  "), "a\ud800", asked("a\udfff")])
def test_no_text_or_no_valid_text_is_a_prompt_error(prompt: Prompt, model: Model) -> None:
    with pytest.raises(PromptError):
        model.complete(prompt)


def test_a_prompt_too_long_for_the_cache_says_how_long_it_may_be(model: Model) -> None:
    length = 1 + len(model.tokenizer.encode("盒子" * 300))
    with pytest.raises(PromptError, match=f"got {length} tokens; allowed: 1 to 384"):
        model.complete("盒子" * 300)


def test_the_finish_reason_is_stop_or_length_and_tokens_are_counted(model: Model) -> None:
    whole = model.complete(asked(CAPITAL[0]))
    assert (whole.finish_reason, whole.token_ids[-1]) == ("stop", EOS)
    cut = model.complete(asked(CAPITAL[0]), max_tokens=4)
    assert (cut.finish_reason, cut.token_ids) == ("length", whole.token_ids[:4])
    assert CAPITAL[1].startswith(cut.text)
    stopped = model.complete(asked(CAPITAL[0]), "首都")
    assert (stopped.finish_reason, stopped.text) == ("stop", "北京是中国的")
    for completion in (whole, cut, stopped):
        assert completion.completion_tokens == len(completion.token_ids)
        assert completion.prompt_tokens == whole.prompt_tokens


def test_a_stop_string_is_found_across_every_border_between_tokens(model: Model) -> None:
    question, answer = LLAMA
    texts = [chunk.text for chunk in model.stream(asked(question)) if chunk.text]
    for before, after in pairwise(texts):
        for stop in before[-1] + after[0], before[-2:] + after[:2]:
            chunks = list(model.stream(asked(question), "never", stop))
            completion = chunks[-1].completion
            assert completion is not None
            assert completion.text == "".join(chunk.text for chunk in chunks)
            assert (completion.text, completion.finish_reason) == (answer.split(stop)[0], "stop")


def test_what_might_have_become_a_stop_string_comes_out_at_the_end(model: Model) -> None:
    completion = model.complete(asked(CAPITAL[0]), CAPITAL[1][-3:] + "!")
    assert (completion.text, completion.finish_reason) == (CAPITAL[1], "stop")


def test_a_stop_string_in_the_last_allowed_token_is_the_reason(model: Model) -> None:
    chunks = list(model.stream(asked(CAPITAL[0])))
    text = "".join(chunk.text for chunk in chunks[:3])
    completion = model.complete(asked(CAPITAL[0]), text[-1], max_tokens=3)
    assert (completion.finish_reason, completion.text) == ("stop", text.split(text[-1])[0])


def test_an_answer_cut_inside_a_character_ends_in_one_replacement_character(model: Model) -> None:
    texts = [chunk.text for chunk in model.stream(asked(LLAMA[0]))]
    inside = texts.index("")  # the first byte of the animal
    completion = model.complete(asked(LLAMA[0]), max_tokens=inside + 1)
    assert completion.text == "".join(texts[:inside]) + "\ufffd"


def test_leaving_a_stream_early_gives_the_slot_back(model: Model) -> None:
    for _ in range(2):  # the bundle has one slot
        with closing(model.stream(asked(LLAMA[0]))) as chunks:
            next(chunks)
    assert model.complete(asked(LLAMA[0])).text == LLAMA[1]


def test_timings_are_positive_and_fit_together(model: Model) -> None:
    completion = model.complete(asked(LLAMA[0]))
    timings = completion.timings
    assert timings.tpot_ms is not None
    assert timings.decode_tokens_per_s == pytest.approx(1e3 / timings.tpot_ms)
    assert 0 < timings.tokenize_ms < timings.ttft_ms
    whole = timings.ttft_ms + timings.tpot_ms * (completion.completion_tokens - 1)
    assert 0 < timings.sample_ms < whole
    assert timings.detokenize_ms > 0
    # Up to the first logits, so a little less than to the first token.
    assert timings.prefill_tokens_per_s > 1e3 * completion.prompt_tokens / timings.ttft_ms
    single = model.complete(asked(LLAMA[0]), max_tokens=1).timings
    assert (single.tpot_ms, single.decode_tokens_per_s) == (None, None)


def test_timings_follow_their_definitions_on_a_hand_made_clock() -> None:
    watch = Stopwatch(started=10.0)
    watch.tokenized = 10.5
    for logits_at, sampled_at in ((12.5, 13.0), (14.0, 14.25), (17.0, 18.0)):
        watch.saw_token(logits_at, sampled_at)
    timings = watch.timings(prompt_tokens=8, completion_tokens=3)
    assert (timings.ttft_ms, timings.tpot_ms) == (3000.0, 2500.0)
    assert (timings.prefill_tokens_per_s, timings.decode_tokens_per_s) == (4.0, 0.4)
    assert (timings.tokenize_ms, timings.sample_ms, timings.detokenize_ms) == (500.0, 1750.0, 0.0)


def plain_cut(text: str, stop: list[str]) -> tuple[str, bool]:
    """The text before the stop string that is complete first, and whether there is one."""
    for end in range(1, len(text) + 1):
        starts = [end - len(each) for each in stop if text[:end].endswith(each)]
        if starts:
            return text[: min(starts)], True
    return text, False


# So short and alike that most runs meet a stop string.
short_texts = st.text("ab", max_size=3)
stop_texts = st.text("ab", min_size=1, max_size=3)


@settings(max_examples=500)
@given(st.lists(stop_texts, max_size=3), st.lists(short_texts, max_size=10))
def test_stop_strings_cut_the_joined_text_wherever_the_chunks_end(
    stop: list[str], chunks: list[str]
) -> None:
    """Of "b" and "abc", the chunk "abc" gave "" but "ab", "c" gave "a"; the first complete wins."""
    stop_strings, fed, released = StopStrings(stop), "", ""
    for chunk in chunks:
        fed += chunk
        released += stop_strings.add(chunk)
        if stop_strings.hit is None:  # nothing is held back that cannot become a stop string
            held = fed.removeprefix(released)
            assert not held or any(each.startswith(held) and each != held for each in stop)
    assert (released + stop_strings.flush(), stop_strings.hit is not None) == plain_cut(fed, stop)


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ParameterError, match="stop"):
        StopStrings(["end", ""])


def test_megabytes_are_refused_before_they_are_made_tokens(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt of 10 MB took 20 seconds to be refused."""

    def encode(*_: object, **__: object) -> list[int]:
        raise AssertionError("it was made tokens")

    monkeypatch.setattr(model.tokenizer, "encode", encode)
    text = "今天天气很好。" * 1_500_000
    for prompt in (text, asked(text)):
        with pytest.raises(PromptError, match=r"got 10500000 characters, .* at least \d+ tokens"):
            next(model.stream(prompt))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=400))
def test_no_text_has_fewer_tokens_than_the_bound(model: Model, text: str) -> None:
    tokenizer = model.tokenizer
    assert tokenizer.fewest_tokens(len(text)) <= len(tokenizer.encode(text))


def test_several_answers_are_those_of_the_seeds_that_follow(model: Model) -> None:
    params = SamplingParams(temperature=1.5, seed=7, max_tokens=12, stop_token_ids=(2,))
    prompt = asked(CAPITAL[0])
    many = complete_many(model.scheduler, model.tokenizer, prompt, params, num_answers=4)
    for i, completion in enumerate(many):
        alone = params.model_copy(update={"seed": 7 + i})
        expected = complete(model.scheduler, model.tokenizer, prompt, alone)
        assert (completion.text, completion.token_ids) == (expected.text, expected.token_ids)
    assert len({completion.text for completion in many}) > 1


def test_the_best_answers_are_those_with_the_likeliest_tokens(model: Model) -> None:
    params = SamplingParams(temperature=1.5, seed=7, max_tokens=12, stop_token_ids=(2,), logprobs=0)
    arguments = (model.scheduler, model.tokenizer, asked(CAPITAL[0]), params)
    every = complete_many(*arguments, num_answers=5)
    best = complete_many(*arguments, num_answers=2, best_of=5)
    means = sorted((completion.mean_logprob for completion in every), reverse=True)
    assert [completion.mean_logprob for completion in best] == pytest.approx(means[:2])
