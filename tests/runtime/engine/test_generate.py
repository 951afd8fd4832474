"""Claims about runtime.generate, against a loop that runs every prefix again from scratch."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.reader import load_bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import FinishReason, Request, Token
from runtime.errors import ParameterError, PromptError
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session

CACHE_LEN, VOCAB, NUM_SLOTS = 40, 640, 5
GREEDY = SamplingParams()
RANDOM = SamplingParams(temperature=1.5, seed=7, max_tokens=12)


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=length)


@pytest.fixture(scope="module")
def engine(bundles: Path) -> Iterator[Engine]:
    with closing(open_session(load_bundle(bundles / "small-fp32"))) as session:
        yield Engine(session)


def run(engine: Engine, prompt: Sequence[int], params: SamplingParams) -> list[Token]:
    return list(generate(Scheduler(engine), Request(prompt_ids=prompt, params=params)))


def ids(tokens: Sequence[Token]) -> list[int]:
    return [token.id for token in tokens]


def reasons(tokens: Sequence[Token]) -> list[FinishReason | None]:
    return [token.finish_reason for token in tokens]


def next_token(engine: Engine, token_ids: Sequence[int]) -> int:
    with engine.slot([]) as slot:
        slot.truncate(0)
        return int(engine.prefill(slot, token_ids).argmax())


def take_all_slots(engine: Engine) -> None:
    with ExitStack() as stack:
        for _ in range(NUM_SLOTS):
            stack.enter_context(engine.slot([]))


def test_greedy_to_the_last_cache_row_takes_what_each_prefix_from_scratch_would(
    engine: Engine,
) -> None:
    prompt = prompt_of(27)
    tokens = ids(run(engine, prompt, GREEDY))
    assert len(set(tokens)) > 5
    assert tokens == [next_token(engine, prompt + tokens[:at]) for at in range(len(tokens))]


@pytest.mark.parametrize("length", [1, 8, 33, 39, 40])
def test_a_prompt_leaves_room_for_one_token_more_than_it_leaves_rows(
    length: int, engine: Engine
) -> None:
    tokens = run(engine, prompt_of(length), GREEDY)
    assert reasons(tokens) == [None] * (CACHE_LEN - length) + ["length"]


@pytest.mark.parametrize("max_tokens", [1, 5, CACHE_LEN - 20 + 1, 1000])
def test_max_tokens_cuts_the_same_answer_short(max_tokens: int, engine: Engine) -> None:
    whole = ids(run(engine, prompt_of(20), GREEDY))
    tokens = run(engine, prompt_of(20), SamplingParams(max_tokens=max_tokens))
    assert ids(tokens) == whole[:max_tokens]
    assert reasons(tokens) == [None] * (len(tokens) - 1) + ["length"]


@pytest.mark.parametrize("max_length", [21, 25, CACHE_LEN + 1, 1000])
def test_max_length_counts_the_prompt_too(max_length: int, engine: Engine) -> None:
    whole = ids(run(engine, prompt_of(20), GREEDY))
    tokens = run(engine, prompt_of(20), SamplingParams(max_length=max_length))
    assert ids(tokens) == whole[: max_length - 20]
    assert reasons(tokens) == [None] * (len(tokens) - 1) + ["length"]
    both = SamplingParams(max_length=max_length, max_tokens=3)
    assert ids(run(engine, prompt_of(20), both)) == whole[:3], "max_tokens goes first"


def test_a_prompt_as_long_as_max_length_is_refused_with_both_numbers(engine: Engine) -> None:
    with pytest.raises(PromptError, match="max_length; got 20 tokens; allowed: up to 19"):
        run(engine, prompt_of(20), SamplingParams(max_length=20))


def test_a_stop_token_is_the_last_one_and_the_reason(engine: Engine) -> None:
    whole = ids(run(engine, prompt_of(20), GREEDY))
    for stop in whole:
        expected = whole[: whole.index(stop) + 1]
        for max_tokens in (None, len(expected)):  # stop wins over length
            params = SamplingParams(stop_token_ids=(VOCAB - 1, stop), max_tokens=max_tokens)
            tokens = run(engine, prompt_of(20), params)
            assert ids(tokens) == expected
            assert reasons(tokens) == [None] * (len(tokens) - 1) + ["stop"]


def test_ignore_eos_goes_past_every_stop_token(engine: Engine) -> None:
    whole = run(engine, prompt_of(20), GREEDY)
    params = SamplingParams(stop_token_ids=tuple(ids(whole)), ignore_eos=True)
    tokens = run(engine, prompt_of(20), params)
    assert (ids(tokens), reasons(tokens)) == (ids(whole), reasons(whole))


def test_a_seed_gives_the_same_tokens_after_other_requests_and_in_another_slot(
    engine: Engine,
) -> None:
    prompt = prompt_of(9)
    first = ids(run(engine, prompt, RANDOM))
    assert ids(run(engine, prompt, RANDOM)) == first
    run(engine, prompt_of(30, seed=1), RANDOM)
    assert ids(run(engine, prompt, RANDOM)) == first
    with engine.slot(prompt), engine.slot(prompt):
        assert ids(run(engine, prompt, RANDOM)) == first
    others = [RANDOM.model_copy(update={"seed": seed}) for seed in range(4)]
    assert len({tuple(ids(run(engine, prompt, params))) for params in (RANDOM, *others)}) == 5


def test_without_a_seed_every_answer_is_new(engine: Engine) -> None:
    """False alarm only if twelve draws at temperature 3 agree: far below 1e-9."""
    params = SamplingParams(temperature=3.0, max_tokens=12)
    assert ids(run(engine, [1], params)) != ids(run(engine, [1], params))


def test_answers_made_in_turns_are_those_made_alone(engine: Engine) -> None:
    prompts = [prompt_of(length, seed=length) for length in (3, 9, 17)]
    alone = [ids(run(engine, prompt, RANDOM)) for prompt in prompts]
    scheduler = Scheduler(engine)
    requests = [Request(prompt_ids=prompt, params=RANDOM) for prompt in prompts]
    in_turns = zip(*(generate(scheduler, request) for request in requests), strict=True)
    assert [ids(tokens) for tokens in zip(*in_turns, strict=True)] == alone
    take_all_slots(engine)


def test_logprobs_are_the_log_softmax_of_the_score_rows(engine: Engine) -> None:
    prompt = prompt_of(10)
    tokens = run(engine, prompt, RANDOM.model_copy(update={"logprobs": 3}))
    assert ids(tokens) == ids(run(engine, prompt, RANDOM))  # they change nothing
    with engine.slot([]) as slot:
        slot.truncate(0)
        rows = np.concatenate([r.copy() for r in engine.score(slot, [*prompt, *ids(tokens)])])
    rows = rows[len(prompt) - 1 : -1].astype(np.float64)  # (12, vocab)
    expected = rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)
    for token, row in zip(tokens, expected, strict=True):
        assert token.logprobs is not None
        assert token.logprobs.logprob == pytest.approx(row[token.id], abs=1e-3)
        top_ids, top = zip(*token.logprobs.top, strict=True)
        assert list(top_ids) == np.argsort(-row)[:3].tolist()
        assert list(top) == pytest.approx(row[list(top_ids)], abs=1e-3)


def test_no_logprobs_unless_asked_for(engine: Engine) -> None:
    (token,) = run(engine, [1], SamplingParams(max_tokens=1))
    assert token.logprobs is None
    (token,) = run(engine, [1], SamplingParams(max_tokens=1, logprobs=0))
    assert token.logprobs is not None
    assert token.logprobs.top == []


def test_closing_early_gives_the_slot_back(engine: Engine) -> None:
    for _ in range(NUM_SLOTS + 1):
        request = Request(prompt_ids=prompt_of(5), params=GREEDY)
        with closing(generate(Scheduler(engine), request)) as tokens:
            next(tokens)
    take_all_slots(engine)


def test_the_moments_of_the_tokens_are_in_order(engine: Engine) -> None:
    tokens = run(engine, prompt_of(5), SamplingParams(max_tokens=4))
    moments = [moment for token in tokens for moment in (token.logits_at, token.sampled_at)]
    assert moments == sorted(moments)


@pytest.mark.parametrize("penalty", [1.0, 1.2])
@pytest.mark.parametrize("prompt", [[], prompt_of(41), [1, VOCAB], [1, -1]])
def test_an_impossible_prompt_is_a_prompt_error_whatever_the_settings(
    prompt: list[int], penalty: float, engine: Engine
) -> None:
    """With a penalty, an unknown id was an IndexError: it was counted before it was checked."""
    with pytest.raises(PromptError):
        run(engine, prompt, SamplingParams(repetition_penalty=penalty))
    take_all_slots(engine)


def test_a_stop_token_outside_the_vocabulary_is_refused(engine: Engine) -> None:
    with pytest.raises(ParameterError, match="stop_token_ids"):
        run(engine, [1], SamplingParams(stop_token_ids=(VOCAB,)))
    take_all_slots(engine)
