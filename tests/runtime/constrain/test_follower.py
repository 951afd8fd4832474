"""Claims about what follows an answer: which ids, where it may end, back and forth."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from sentencepiece import SentencePieceTrainer

from runtime.constrain.grammar import Grammar
from runtime.errors import SessionError
from runtime.sampling.constraint import Constraint
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.runtime.constrain.answers import PADDING, Writer, make_writer

SCHEMA = '{"type": "array", "items": {"enum": ["a", "是", 1, null]}, "maxItems": 3}'
GRAMMARS = (
    ("json_schema", SCHEMA),
    ("regex", r" ?(a|是|\d){0,3}"),
    ("choice", ("yes", " yes", "no", "")),
    ("lark", 'start: ("a" | " b")* "."'),
)


@pytest.fixture(params=GRAMMARS, ids=lambda grammar: grammar[0])
def grammar(request: pytest.FixtureRequest, writer: Writer) -> Grammar:
    return writer.grammar(*request.param)


def ids(constraint: Constraint) -> list[int]:
    found: list[int] = constraint.allowed().nonzero()[0].tolist()
    return found


def pick(writer: Writer, constraint: Constraint, text: str) -> int:
    """An allowed id that spells the text."""
    tokenizer = writer.tokenizer
    data = text.encode()
    return next(i for i in ids(constraint) if tokenizer.token_bytes(i) == data)


def after(grammar: Grammar, token_ids: list[int], at_start: bool) -> Constraint:
    constraint = grammar.start(at_start=at_start)
    for token_id in token_ids:
        constraint.accept(token_id)
    return constraint


def valid(grammar: Grammar, done: list[int], at_start: bool, token_ids: list[int]) -> int:
    """What valid_prefix says, by masks alone."""
    constraint = after(grammar, done, at_start)
    for num, token_id in enumerate(token_ids):
        if constraint.ended or not constraint.allowed()[token_id]:
            return num
        constraint.accept(token_id)
    return len(token_ids)


@pytest.mark.parametrize("at_start", [True, False], ids=["chat", "raw"])
def test_going_back_is_never_having_gone(at_start: bool, grammar: Grammar, writer: Writer) -> None:
    for seed in range(6):
        rng = Random(seed)
        constraint, done = grammar.start(at_start=at_start), list[int]()
        for _ in range(12):
            if constraint.ended or (done and rng.random() < 0.3):
                num = rng.randint(0, len(done))
                constraint.rollback(num)
                del done[len(done) - num :]
            else:
                done.append(rng.choice(ids(constraint)))
                constraint.accept(done[-1])
            fresh = after(grammar, done, at_start)
            assert constraint.ended == fresh.ended
            np.testing.assert_array_equal(constraint.allowed(), fresh.allowed())


@pytest.mark.parametrize("at_start", [True, False], ids=["chat", "raw"])
def test_a_draft_is_valid_as_far_as_the_masks_let_it_go(
    at_start: bool, grammar: Grammar, writer: Writer
) -> None:
    for seed in range(20):
        rng = Random(seed)
        constraint, done = grammar.start(at_start=at_start), list[int]()
        for _ in range(rng.randint(0, 2)):
            if not constraint.ended:
                done.append(rng.choice(ids(constraint)))
                constraint.accept(done[-1])
        draft, walk = list[int](), after(grammar, done, at_start)
        while not walk.ended and len(draft) < 4:
            draft.append(rng.choice(ids(walk)))
            walk.accept(draft[-1])
        for wrong in (rng.randrange(writer.vocab_size), 0, 1, writer.vocab_size - 1):
            for cut in range(len(draft) + 1):
                tried = [*draft[:cut], wrong, *draft[cut:]]
                expected = valid(grammar, done, at_start, tried)
                assert constraint.valid_prefix(tried) == expected
        assert constraint.valid_prefix([]) == 0
        assert constraint.valid_prefix(draft) == len(draft)


def test_ids_without_a_text_are_never_allowed(writer: Writer) -> None:
    """Not the padding of the model, not control tokens, not the unknown piece."""
    tokenizer = writer.tokenizer
    constraint = writer.grammar("regex", r"(?s:.*)").start(at_start=True)
    never = [i for i in range(tokenizer.vocab_size) if tokenizer.is_control(i)]
    assert tokenizer.unk_token_id is not None
    never += [tokenizer.unk_token_id, *range(tokenizer.vocab_size, writer.vocab_size)]
    for _ in range(3):
        allowed = constraint.allowed()
        assert allowed.shape == (writer.vocab_size,)
        assert not allowed[[i for i in never if i != tokenizer.eos_token_id]].any()
        assert allowed[tokenizer.eos_token_id]
        assert allowed.sum() > writer.vocab_size / 3 > PADDING
        constraint.accept(pick(writer, constraint, "a"))


def test_the_end_is_allowed_only_where_the_text_is_complete(tiny: Writer) -> None:
    eos = tiny.tokenizer.eos_token_id
    constraint = tiny.grammar("regex", "ab?").start(at_start=True)
    assert not constraint.allowed()[eos]
    constraint.accept(pick(tiny, constraint, "a"))
    assert not constraint.ended
    assert constraint.allowed()[eos]
    constraint.accept(eos)
    assert constraint.ended
    constraint.rollback(1)
    assert not constraint.ended
    constraint.accept(pick(tiny, constraint, "b"))
    assert constraint.ended, "nothing can follow, so no token more is asked for"


def test_a_stop_token_that_is_text_stops_only_a_complete_answer(tiny: Writer) -> None:
    """Else the answer would be cut in the middle and still be called complete."""
    grammar = tiny.grammar("regex", "a+")
    plain = grammar.start(at_start=False)
    letter = pick(tiny, plain, "a")
    stop = pick(tiny, tiny.grammar("choice", ("b",)).start(at_start=False), "b")
    constraint = grammar.start(at_start=False, stop_token_ids=(stop,))
    assert not constraint.allowed()[stop]
    assert constraint.valid_prefix([letter, stop, letter]) == 2
    constraint.accept(letter)
    assert constraint.allowed()[stop]
    constraint.accept(stop)
    assert constraint.ended


def test_several_answers_of_one_grammar_do_not_meet(tiny: Writer) -> None:
    grammar = tiny.grammar("choice", ("ab", "cd"))
    first, second = grammar.start(at_start=False), grammar.start(at_start=False)
    first.accept(pick(tiny, first, "a"))
    assert second.valid_prefix([pick(tiny, second, "c")]) == 1
    assert after(grammar, [], False).allowed().sum() == second.allowed().sum()


def test_the_first_space_that_is_not_shown_is_free(tiny: Writer) -> None:
    """A model opens an answer with it, and the text may begin with a letter all the same."""
    tokenizer = tiny.tokenizer
    shown = [tokenizer.token_bytes(i, at_start=True) for i in range(tokenizer.vocab_size)]
    mark = next(i for i, text in enumerate(shown) if not text and not tokenizer.is_control(i))
    choice = tiny.grammar("choice", ("是",))
    assert mark in ids(choice.start(at_start=True))
    assert mark not in ids(choice.start(at_start=False))
    opened = after(choice, [mark], True)
    assert mark not in ids(opened), "it is free once"
    opened.accept(pick(tiny, opened, "是"))
    assert opened.ended


def test_a_grammar_that_no_tokens_can_spell_is_a_dead_end(tmp_path: Path) -> None:
    SentencePieceTrainer.train(
        sentence_iterator=iter(["abc cab", "bca"]),
        model_prefix=str(tmp_path / "bare"),
        vocab_size=9,
        model_type="bpe",
        minloglevel=2,
    )
    bare = make_writer(SentencePieceTokenizer(tmp_path / "bare.model"))
    constraint = bare.grammar("choice", ("a龘",)).start(at_start=True)
    constraint.accept(pick(bare, constraint, "a"))
    with pytest.raises(SessionError, match="dead end; got it allows no text here") as refusal:
        constraint.allowed()
    assert refusal.value.code == "constraint_dead_end"


def test_a_grammar_that_demands_a_token_without_text_is_a_dead_end(tiny: Writer) -> None:
    constraint = tiny.grammar("lark", 'start: "a" <[1]>').start(at_start=False)
    constraint.accept(pick(tiny, constraint, "a"))
    with pytest.raises(SessionError, match="no token has a text that can follow"):
        constraint.allowed()


def test_a_step_that_takes_too_much_is_a_dead_end(tiny: Writer) -> None:
    """After one digit, a state for each remainder and each way on to a million."""
    schema = '{"type": "integer", "multipleOf": 9973, "minimum": 0, "maximum": 1000000}'
    constraint = tiny.grammar("json_schema", schema).start(at_start=False)
    constraint.accept(pick(tiny, constraint, "3"))
    with pytest.raises(SessionError, match="got lexer error: too many expressions") as refusal:
        constraint.allowed()
    assert refusal.value.code == "constraint_dead_end"
