"""Claims about constrained answers of a model: through engine, loop and detokenizer."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import jsonschema
import pytest

from runtime.bundle.reader import load_bundle
from runtime.completion import Completion, complete, complete_many
from runtime.constrain import open_compiler
from runtime.constrain.grammar import GrammarCompiler
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.sampling.constraint import ConstraintSpec, StartConstraint
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.from_bundle import open_tokenizer
from runtime.text.template import question
from runtime.text.tokenizer import Tokenizer
from tests.runtime.constrain.schemas import random_schema

ASKED = question("", "北京是哪个国家的首都？")
ANSWERS = 20


@pytest.fixture(scope="module")
def tokenizer(bundles: Path) -> Tokenizer:
    return open_tokenizer(load_bundle(bundles / "talk-fp32"))


@pytest.fixture(scope="module")
def engine(bundles: Path) -> Iterator[Engine]:
    with closing(open_session(load_bundle(bundles / "talk-fp32"))) as session:
        yield Engine(session)


@pytest.fixture(scope="module")
def compiler(engine: Engine, tokenizer: Tokenizer) -> GrammarCompiler:
    return open_compiler(tokenizer, engine.vocab_size)


def start_of(compiler: GrammarCompiler, params: SamplingParams) -> StartConstraint:
    assert params.constraint is not None
    grammar = compiler.compile(params.constraint)
    return partial(grammar.start, at_start=True, stop_token_ids=params.stop_token_ids)


def answer(
    engine: Engine, tokenizer: Tokenizer, compiler: GrammarCompiler, params: SamplingParams
) -> Completion:
    start = start_of(compiler, params)
    return complete(Scheduler(engine), tokenizer, ASKED, params, start_constraint=start)


def test_answers_to_random_schemas_fulfil_them(
    engine: Engine, tokenizer: Tokenizer, compiler: GrammarCompiler
) -> None:
    ended = 0
    for seed in range(ANSWERS):
        schema = random_schema(Random(seed))
        params = SamplingParams(
            temperature=1.5,
            top_p=0.95,
            repetition_penalty=1.1,
            seed=seed,
            stop_token_ids=(tokenizer.eos_token_id,),
            constraint=ConstraintSpec(kind="json_schema", value=json.dumps(schema)),
        )
        completion = answer(engine, tokenizer, compiler, params)
        if completion.finish_reason == "stop":
            jsonschema.validate(json.loads(completion.text), schema)
            ended += 1
    assert ended >= ANSWERS / 2


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_the_last_token_of_a_complete_answer_is_shown_and_no_step_follows(
    ignore_eos: bool, engine: Engine, tokenizer: Tokenizer, compiler: GrammarCompiler
) -> None:
    """Of a token that stops the answer nothing is shown; here it is the text itself that ends."""
    params = SamplingParams(
        stop_token_ids=(tokenizer.eos_token_id,),
        ignore_eos=ignore_eos,
        constraint=ConstraintSpec(kind="choice", value=("是的", "不是")),
    )
    completion = answer(engine, tokenizer, compiler, params)
    assert completion.text in ("是的", "不是")
    assert (completion.finish_reason, completion.stop_reason) == ("stop", None)
    assert tokenizer.eos_token_id not in completion.token_ids


def test_an_answer_that_could_go_on_ends_where_the_model_ends_it(
    engine: Engine, tokenizer: Tokenizer, compiler: GrammarCompiler
) -> None:
    params = SamplingParams(
        stop_token_ids=(tokenizer.eos_token_id,),
        constraint=ConstraintSpec(kind="regex", value="(?s:.*)"),
    )
    free = params.model_copy(update={"constraint": None})
    unbound = complete(Scheduler(engine), tokenizer, ASKED, free)
    bound = answer(engine, tokenizer, compiler, params)
    assert (bound.token_ids, bound.text) == (unbound.token_ids, unbound.text)
    assert bound.token_ids[-1] == tokenizer.eos_token_id


def test_answers_side_by_side_are_bound_each_by_itself(
    engine: Engine, tokenizer: Tokenizer, compiler: GrammarCompiler
) -> None:
    params = SamplingParams(
        temperature=2.0,
        seed=0,
        stop_token_ids=(tokenizer.eos_token_id,),
        constraint=ConstraintSpec(kind="regex", value="[a-z]{2,9}"),
    )
    start = start_of(compiler, params)
    many = complete_many(Scheduler(engine), tokenizer, ASKED, params, (), start, num_answers=4)
    for seed, completion in enumerate(many):
        alone = params.model_copy(update={"seed": seed})
        assert completion.text == answer(engine, tokenizer, compiler, alone).text
        assert re.fullmatch("[a-z]{2,9}", completion.text)
    assert len({completion.text for completion in many}) == 4


def test_settings_that_bind_need_the_compiled_constraint(engine: Engine) -> None:
    """Else the answer would be free, and nobody would know."""
    params = SamplingParams(constraint=ConstraintSpec(kind="regex", value="a"))
    with pytest.raises(AssertionError, match="compiled first"):
        next(generate(Scheduler(engine), Request(prompt_ids=[1, 2, 3], params=params)))
