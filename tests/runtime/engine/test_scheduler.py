"""Claims about many requests at once: each has the tokens that it has alone, and no slot is lost.

`MIXES=1000 pytest tests/runtime/engine/test_scheduler.py` tries more mixes than the suite.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import load_bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Policy, Scheduler
from runtime.engine.sequence import Request
from runtime.errors import PromptError, SessionError
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.sessions.base import Chunk, Logits, Session
from tests.mixes import NEVER, Asked, Mix, alone, check_fp32_mix, mixes, run_mix
from tests.recorded import BatchedScores, Recorded

CACHE_LEN, VOCAB = 40, 640
GREEDY = SamplingParams(max_tokens=8)


@pytest.fixture(scope="module")
def session(bundles: Path) -> Iterator[Session]:
    with closing(open_session(load_bundle(bundles / "small-fp32"))) as session:
        yield session


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return Random(seed).choices(range(VOCAB), k=length)


def asked(*prompts: Sequence[int], params: SamplingParams = GREEDY, apart: int = 0) -> list[Asked]:
    return [
        Asked(request=Request(prompt_ids=prompt, params=params), arrives=i * apart, aborted=NEVER)
        for i, prompt in enumerate(prompts)
    ]


@settings(
    max_examples=int(os.environ.get("MIXES", "100")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(mix=mixes(VOCAB, CACHE_LEN))
def test_every_request_of_any_mix_has_the_tokens_that_it_has_alone(
    mix: Mix, session: Session
) -> None:
    check_fp32_mix(session, mix)


def test_requests_that_arrive_together_share_the_decode_calls(session: Session) -> None:
    recorded = Recorded(session)
    prompts = [prompt_of(5, seed) for seed in range(3)]
    mix = Mix(asked=asked(*prompts), policy=Policy(prefill_first=True), reuse_prefix=True)
    run_mix(recorded, mix)
    assert [name for name, _ in recorded.calls].count("decode_b3") == 7


def test_a_running_stream_waits_for_one_part_of_a_prompt_at_most(session: Session) -> None:
    """40 rows of prompt are five calls; the stream has a token after each of them."""
    recorded = Recorded(session)
    scheduler = Scheduler(Engine(recorded), Policy(speculate=False))
    params = SamplingParams(max_tokens=30)
    stream = scheduler.add(Request(prompt_ids=prompt_of(3), params=params))
    while not stream.tokens:
        scheduler.step()
    scheduler.add(Request(prompt_ids=prompt_of(40, 1), params=GREEDY))
    recorded.calls.clear()
    for _ in range(11):
        scheduler.step()
    names = [name for name, _ in recorded.calls]
    assert names == ["decode_b1", *["prefill_s8", "decode_b1"] * 5]


def test_the_first_to_come_is_the_first_to_begin(session: Session) -> None:
    scheduler = Scheduler(Engine(session))
    requests = [Request(prompt_ids=prompt_of(9, seed), params=GREEDY) for seed in range(5)]
    sequences = [scheduler.add(request) for request in requests]
    begun: list[int] = []
    while not scheduler.is_idle:
        scheduler.step()
        begun += [i for i, each in enumerate(sequences) if each.tokens and i not in begun]
    assert begun == [0, 1, 2, 3, 4]


def test_a_sequence_moves_down_when_it_alone_keeps_a_large_graph_busy(session: Session) -> None:
    short, long = SamplingParams(max_tokens=2), SamplingParams(max_tokens=20)
    prompts = [prompt_of(4, seed) for seed in range(3)]
    for compact in (True, False):
        policy = Policy(compact=compact, speculate=False, prefill_first=True)
        scheduler = Scheduler(Engine(session), policy)
        sequences = [
            scheduler.add(Request(prompt_ids=prompt, params=params))
            for prompt, params in zip(prompts, (short, long, long), strict=True)
        ]
        while sequences[1].num_tokens < 10:
            scheduler.step()
        lent = {each.slot.index for each in sequences if each.slot is not None}
        assert lent == ({0, 1} if compact else {1, 2})
        assert scheduler.counters.moves == compact


def test_a_prompt_finds_the_rows_of_one_that_came_with_it(session: Session) -> None:
    engine = Engine(session)
    mix_prompt = prompt_of(30)
    scheduler = Scheduler(engine)
    for _ in range(3):
        scheduler.add(Request(prompt_ids=mix_prompt, params=GREEDY))
    while not scheduler.is_idle:
        scheduler.step()
    assert (engine.prefix_prompts, engine.prefix_hits) == (2, 2 * 29)


def test_what_finished_requests_left_outlives_more_requests_than_there_are_lanes(
    session: Session,
) -> None:
    """Five slots hold five conversations, though three run at once."""
    engine = Engine(session)
    scheduler = Scheduler(engine)
    prompts = [prompt_of(20, seed) for seed in range(5)]
    for prompt in prompts * 2:
        list(generate(scheduler, Request(prompt_ids=prompt, params=GREEDY)))
    assert engine.prefix_hits == 5 * 19


@pytest.mark.parametrize("params", [GREEDY, SamplingParams(max_tokens=30, temperature=0.4, seed=1)])
def test_drafts_change_when_tokens_are_made_and_never_which(
    params: SamplingParams, session: Session
) -> None:
    prompt = [5, 6, 7, 8] * 2
    biased = params.model_copy(update={"max_tokens": 24, "logit_bias": dict.fromkeys((5, 6), 30.0)})
    request = Request(prompt_ids=prompt, params=biased)
    recorded = Recorded(session)
    scheduler = Scheduler(Engine(recorded))
    ids = [token.id for token in generate(scheduler, request)]
    assert ids == alone(session, request)
    counters = scheduler.counters
    assert counters.accepted > 0
    assert counters.verify_calls + counters.decode_calls < 23, "fewer calls than tokens"


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mix=mixes(VOCAB, CACHE_LEN))
def test_where_a_graph_checks_drafts_of_several_the_tokens_are_the_same(
    mix: Mix, session: Session
) -> None:
    policy = replace(mix.policy, speculate=True)
    check_fp32_mix(BatchedScores(session), replace(mix, policy=policy))


def test_drafts_of_several_sequences_share_a_call(session: Session) -> None:
    recorded = BatchedScores(session)
    biased = SamplingParams(max_tokens=20, logit_bias={5: 30.0, 6: 30.0})
    prompts = [[5, 6, 7, token_id] * 3 for token_id in (8, 9, 10)]
    mix = Mix(
        asked=asked(*prompts, params=biased),
        policy=Policy(prefill_first=True),
        reuse_prefix=False,
    )
    run_mix(recorded, mix)
    names = [name for name, _ in recorded.calls]
    assert names.count("score_b3_s8") > 0
    assert names.count("score_b3_s8") + names.count("decode_b3") < 19, "fewer calls than tokens"


def test_fault_at_any_call_ends_only_those_it_was_made_for(session: Session) -> None:
    prompts = [prompt_of(length, seed) for seed, length in enumerate((3, 17, 9, 20, 5))]
    prompts.append(prompts[1] + [4])
    mix = Mix(asked=asked(*prompts, apart=2), policy=Policy(), reuse_prefix=True)
    expected = [alone(session, each.request) for each in mix.asked]
    recorded = Recorded(session)
    run_mix(recorded, mix)
    assert {"copy", "decode_b3", "prefill_s8"} <= {name for name, _ in recorded.calls}
    for fail_at in range(1, len(recorded.calls) + 1):
        outcomes = run_mix(Recorded(session, fail_at), mix)
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        assert len(failed) <= 3
        for outcome, ids in zip(outcomes, expected, strict=True):
            if outcome.error is None:
                assert outcome.ids == ids
            else:
                assert "stumbled" in str(outcome.error)
                assert outcome.ids == ids[: len(outcome.ids)]


def test_unusable_logits_end_the_sequence_that_has_them(session: Session) -> None:
    class Broken(Recorded):
        def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
            logits = super().run(graph, chunks).copy()
            if len(chunks) == 3:
                logits[1] = np.nan
            return logits

    prompts = [prompt_of(5, seed) for seed in range(3)]
    mix = Mix(asked=asked(*prompts), policy=Policy(prefill_first=True), reuse_prefix=True)
    outcomes = run_mix(Broken(session), mix)
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    for i in (0, 2):
        assert outcomes[i].ids == alone(session, mix.asked[i].request)


def test_a_request_ends_when_its_time_is_over(session: Session) -> None:
    scheduler = Scheduler(Engine(session))
    waited = scheduler.add(Request(prompt_ids=[5], params=GREEDY, start_by=-1.0))
    assert scheduler.step() == [waited]
    with pytest.raises(SessionError, match="waited too long") as refusal:
        waited.take()
    assert refusal.value.code == "deadline_exceeded"
    running = scheduler.add(Request(prompt_ids=[5], params=GREEDY))
    scheduler.step()
    object.__setattr__(running.request, "finish_by", -1.0)  # as if time had passed
    scheduler.step()
    assert len(running.take()) == 1
    with pytest.raises(SessionError, match="took too long"):
        running.take()
    assert scheduler.is_idle


def test_what_cannot_run_is_refused_before_it_waits(session: Session) -> None:
    scheduler = Scheduler(Engine(session))
    with pytest.raises(PromptError, match="longer than the cache"):
        scheduler.add(Request(prompt_ids=prompt_of(41), params=GREEDY))
    assert scheduler.is_idle


@pytest.mark.parametrize("length", [1, 8, 9, 40])
def test_logprobs_of_a_prompt_are_the_log_softmax_of_the_score_rows(
    length: int, session: Session
) -> None:
    prompt = prompt_of(length)
    engine = Engine(session)
    scheduler = Scheduler(engine)
    list(generate(scheduler, Request(prompt_ids=prompt, params=GREEDY)))  # rows that are not reused
    with closing(generate(scheduler, Request(prompt_ids=prompt, params=GREEDY))) as tokens:
        first = next(tokens).id
    sequence = scheduler.add(Request(prompt_ids=prompt, params=GREEDY, prompt_logprobs=2))
    while not sequence.ended:
        scheduler.step()
    assert sequence.tokens[0].id == first
    with engine.slot([]) as slot:
        slot.truncate(0)
        rows = np.concatenate(list(engine.score(slot, prompt))).astype(np.float64)
    expected = rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)
    assert len(sequence.prompt_logprobs) == length
    assert sequence.prompt_logprobs[0] is None
    for row, token_id, found in zip(
        expected, prompt[1:], sequence.prompt_logprobs[1:], strict=False
    ):
        assert found is not None
        assert found.logprob == pytest.approx(row[token_id], abs=1e-4)
        assert [i for i, _ in found.top] == np.argsort(-row, kind="stable")[:2].tolist()
