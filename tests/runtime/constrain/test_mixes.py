"""Claims about constrained requests among others: each has the tokens that it has alone."""

import os
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.bundle.reader import load_bundle
from runtime.constrain import open_compiler
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Policy, Scheduler
from runtime.engine.sequence import Request
from runtime.errors import SessionError
from runtime.sampling.constraint import ConstraintSpec, StartConstraint
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.sessions.base import Session
from runtime.text.from_bundle import open_tokenizer
from runtime.text.tokenizer import Tokenizer
from tests.mixes import NEVER, Asked, Mix, check_fp32_mix, mixes, run_mix

CACHE_LEN, VOCAB = 40, 640
SPECS = (
    ConstraintSpec(kind="json_schema", value='{"type": "array", "items": {"enum": [1, 2]}}'),
    ConstraintSpec(kind="regex", value="(ab|a b)*"),
    ConstraintSpec(kind="choice", value=("yes, yes, yes, yes", "yes, yes, no", "no")),
    ConstraintSpec(kind="regex", value="(?s:.*)"),
)
CIRCLE = ConstraintSpec(kind="regex", value="(abc ){8}")
DEAD_END = ConstraintSpec(kind="lark", value='start: "a" <[1]>')


@pytest.fixture(scope="module")
def session(bundles: Path) -> Iterator[Session]:
    with closing(open_session(load_bundle(bundles / "small-fp32"))) as session:
        yield session


@pytest.fixture(scope="module")
def tokenizer(bundles: Path) -> Tokenizer:
    return open_tokenizer(load_bundle(bundles / "small-fp32"))


@pytest.fixture(scope="module")
def starts(tokenizer: Tokenizer) -> dict[ConstraintSpec, StartConstraint]:
    compiler = open_compiler(tokenizer, VOCAB)
    specs = (*SPECS, CIRCLE, DEAD_END)
    return {spec: partial(compiler.compile(spec).start, at_start=True) for spec in specs}


@settings(
    max_examples=int(os.environ.get("MIXES", "100")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_every_request_of_any_mix_has_the_tokens_that_it_has_alone(
    data: st.DataObject, session: Session, starts: dict[ConstraintSpec, StartConstraint]
) -> None:
    bound = [starts[spec] for spec in SPECS]
    check_fp32_mix(session, data.draw(mixes(VOCAB, CACHE_LEN, bound)))


def test_drafts_are_only_what_the_constraint_could_take(
    session: Session, tokenizer: Tokenizer, starts: dict[ConstraintSpec, StartConstraint]
) -> None:
    """An answer that goes round in a circle is drafted, and the same as without drafts."""
    request = Request(prompt_ids=[1, 5], params=SamplingParams(), start_constraint=starts[CIRCLE])
    answers = []
    for speculate in (False, True):
        scheduler = Scheduler(Engine(session), Policy(speculate=speculate))
        answers.append([token.id for token in generate(scheduler, request)])
        assert (scheduler.counters.drafted > 0) == speculate
    assert answers[0] == answers[1]
    assert "abc abc ".startswith(tokenizer.decode(answers[0])[:8])


def test_a_dead_end_of_one_request_changes_no_other(
    session: Session, starts: dict[ConstraintSpec, StartConstraint]
) -> None:
    params = SamplingParams(max_tokens=8)
    ends = (None, starts[DEAD_END], starts[SPECS[1]], None)
    asked = [
        Asked(
            request=Request(prompt_ids=[7, 5, 6, i], params=params, start_constraint=start),
            arrives=0,
            aborted=NEVER,
        )
        for i, start in enumerate(ends)
    ]
    mix = Mix(asked=asked, policy=Policy(), reuse_prefix=True)
    outcomes = run_mix(session, mix)
    error = outcomes[1].error
    assert isinstance(error, SessionError)
    assert error.code == "constraint_dead_end"
    others = [each for i, each in enumerate(asked) if i != 1]
    check_fp32_mix(session, Mix(asked=others, policy=Policy(), reuse_prefix=True))
    left = run_mix(session, Mix(asked=others, policy=Policy(), reuse_prefix=True))
    assert [outcomes[i].ids for i in (0, 2, 3)] == [each.ids for each in left]
