"""Random mixes of requests on one scheduler, and what each of them gives alone.

Alone is a plain loop of prefill, sampling and decode on an engine that reuses nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from hypothesis import strategies as st

from runtime.engine.engine import Engine
from runtime.engine.scheduler import Policy, Scheduler
from runtime.engine.sequence import Request, Sequence
from runtime.sampling.constraint import StartConstraint
from runtime.sampling.params import SamplingParams
from runtime.sampling.sampler import Sampler, make_rng
from runtime.sessions.base import Logits, Session

# How far logits of a mix may be from those of a request alone.
Tolerance: TypeAlias = Callable[[Logits], float]
FP32_SPACINGS = 64  # of float32 at the largest logit; 17 were seen in 300 mixes
NEVER = 10_000  # a step that no mix reaches


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, the step it arrives at, and the step it is aborted at."""

    request: Request
    arrives: int
    aborted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    asked: list[Asked]
    policy: Policy
    reuse_prefix: bool


@dataclass(slots=True)
class Outcome:
    """What became of a request of a mix."""

    ids: list[int] = field(default_factory=list)
    logits: list[Logits] = field(default_factory=list)  # of requests that keep them
    error: Exception | None = None


def mixes(
    vocab: int, context_len: int, constraints: Iterable[StartConstraint] = ()
) -> st.SearchStrategy[Mix]:
    """Prompts share beginnings and repeat themselves, so that rows are reused and drafts found.

    Some requests are bound to one of the constraints.
    """
    few_ids = st.lists(st.sampled_from(range(5, 8)), min_size=1, max_size=context_len)
    params = st.builds(
        SamplingParams,
        temperature=st.sampled_from([0.0, 0.0, 0.7, 1.5]),
        top_k=st.sampled_from([0, 5, 50]),
        top_p=st.sampled_from([1.0, 0.9]),
        repetition_penalty=st.sampled_from([1.0, 1.0, 1.3]),
        frequency_penalty=st.sampled_from([0.0, 0.5]),
        logit_bias=st.sampled_from([{}, {7: 5.0}]),
        seed=st.integers(0, 3),
        max_tokens=st.sampled_from([None, 1, 2, 6, 15]),
        stop_token_ids=st.sampled_from([(), (6,), tuple(range(0, vocab, 9))]),
    )
    asked = st.builds(
        Asked,
        request=st.builds(
            Request,
            prompt_ids=few_ids,
            params=params,
            start_constraint=st.sampled_from([None, *constraints]),
        ),
        arrives=st.integers(0, 30),
        aborted=st.sampled_from([NEVER, NEVER, NEVER, 0, 3, 10, 30]),
    )
    return st.builds(
        Mix,
        asked=st.lists(asked, min_size=1, max_size=7),
        policy=st.builds(
            Policy, prefill_first=st.booleans(), speculate=st.booleans(), compact=st.booleans()
        ),
        reuse_prefix=st.booleans(),
    )


def run_mix(session: Session, mix: Mix) -> list[Outcome]:
    """Runs a mix, looking at the scheduler after every step."""
    engine = Engine(session, reuse_prefix=mix.reuse_prefix)
    scheduler = Scheduler(engine, mix.policy)
    num_slots = len(engine.cache.slots)
    outcomes = [Outcome() for _ in mix.asked]
    running: dict[int, Sequence] = {}
    step = 0
    while step <= max(asked.arrives for asked in mix.asked) or not scheduler.is_idle:
        for i, asked in enumerate(mix.asked):
            if asked.arrives == step:
                running[i] = scheduler.add(asked.request)
            if asked.arrives + asked.aborted == step:
                scheduler.abort(running[i])
                assert running[i].slot is None
        changed = scheduler.step()
        for i, sequence in running.items():
            made = [token.id for token in sequence.tokens]
            if made:
                assert sequence in changed, "who made tokens is named"
            outcomes[i].logits += [
                token.logits for token in sequence.tokens if token.logits is not None
            ]
            sequence.tokens.clear()
            outcomes[i].ids += made
            outcomes[i].error = sequence.error
        lent = [each.slot.index for each in running.values() if each.slot is not None]
        assert len(set(lent)) == len(lent) == scheduler.num_running, "a slot is lent once"
        assert engine.cache.num_free + len(lent) == num_slots, "no slot is lost"
        step += 1
    assert engine.cache.num_free == num_slots
    return outcomes


def alone(session: Session, request: Request) -> list[int]:
    """The ids of a request that nobody runs beside."""
    engine, params = Engine(session, reuse_prefix=False), request.params
    sampler = _sampler(request, engine.vocab_size)
    ids: list[int] = []
    with engine.slot(request.prompt_ids) as slot:
        logits = engine.prefill(slot, request.prompt_ids)
        while True:
            ids.append(sampler.sample(logits))
            ended = ids[-1] in params.stop_token_ids or sampler.ended
            if ended or len(ids) == params.max_tokens or slot.room == 0:
                return ids
            logits = engine.decode([slot], ids[-1:])[0]


def check_fp32_mix(session: Session, mix: Mix) -> None:
    """Every request has the logits that it has alone; without chance it has the same tokens."""
    for asked, outcome in zip(mix.asked, check_mix(session, mix, _fp32_tolerance), strict=True):
        if asked.request.params.temperature == 0:
            assert outcome.ids == alone(session, asked.request)[: len(outcome.ids)]


def _fp32_tolerance(alone: Logits) -> float:
    return FP32_SPACINGS * float(np.spacing(np.abs(alone).max()))


def check_mix(session: Session, mix: Mix, tolerance: Tolerance) -> list[Outcome]:
    """Every request has the logits that it has alone and their tokens; an aborted one, some."""
    kept = [replace(asked, request=replace(asked.request, keep_logits=True)) for asked in mix.asked]
    outcomes = run_mix(session, replace(mix, asked=kept))
    for asked, outcome in zip(kept, outcomes, strict=True):
        assert outcome.error is None
        check_request(session, asked, outcome, tolerance)
    return outcomes


def check_request(session: Session, asked: Asked, outcome: Outcome, tolerance: Tolerance) -> None:
    """Runs a request alone, along the tokens that it had in the mix.

    Where rows were reused or several sequences were run at once, the last bits of its logits may
    be others, and a draw at the very edge of a probability another token. So the logits are
    compared, and each token is what the sampler takes from those of the mix.
    """
    request, aborted = asked.request, asked.aborted != NEVER
    engine, params = Engine(session, reuse_prefix=False), request.params
    sampler = _sampler(request, engine.vocab_size)
    ended = aborted
    with engine.slot(request.prompt_ids) as slot:
        for i, (token_id, logits) in enumerate(zip(outcome.ids, outcome.logits, strict=True)):
            if i == 0:
                alone = engine.prefill(slot, request.prompt_ids)
            else:
                alone = engine.decode([slot], [outcome.ids[i - 1]])[0]
            assert np.abs(logits - alone).max() <= tolerance(alone)
            assert sampler.sample(logits) == token_id
            stopped = token_id in params.stop_token_ids or sampler.ended
            ended = stopped or i + 1 == params.max_tokens
            assert not ended or i + 1 == len(outcome.ids)
        assert ended or aborted or slot.room == 0


def _sampler(request: Request, vocab_size: int) -> Sampler:
    constraint = request.start_constraint() if request.start_constraint else None
    rng = make_rng(request.params.seed)
    return Sampler(request.params, request.prompt_ids, vocab_size, rng, constraint)
