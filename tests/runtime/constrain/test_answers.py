"""Claims about constrained answers: what is shown is what was asked for, to the letter."""

import json
import re
from random import Random

import jsonschema
import pytest

from tests.runtime.constrain.answers import Writer
from tests.runtime.constrain.schemas import random_schema

MOST = 0.9  # of the answers end before they are cut
REGEXES = (
    r"[0-9]{3}-[0-9]{4}",
    r"^(yes|no)( indeed)?[.!]$",
    r" ?[A-Z][a-zé]{0,5}",
    r" {2}x|  y| z",
    r"[一-龥]{2,4}，(是|否)",
    r"a/b\$",
    r"(?i)abc|[^a-z]{1,3}",
    r"(𠮷|龘|é){1,3}",
    r"",
    r"a?",
    r".{0,4}",
)
CHOICES = (
    ("yes", "no"),
    ("yes", "yes please", " yes", "  yes"),
    ("是", "否", "不知道"),
    ('"', "\\", "\n", "a\tb", "/", "", "𠮷"),
    tuple(f"answer {number}" for number in range(3000)),
)


def check_schemas(writer: Writer, num: int) -> None:
    ended = 0
    for seed in range(num):
        schema = random_schema(Random(seed))
        text = json.dumps(schema, ensure_ascii=bool(seed % 2))
        at_start = bool(seed % 3)
        constraint = writer.grammar("json_schema", text).start(at_start=at_start)
        answer = writer.write(constraint, at_start=at_start, seed=seed)
        if answer is not None:
            jsonschema.validate(json.loads(answer), schema)
            ended += 1
    assert ended >= MOST * num


def test_five_hundred_random_schemas_give_json_that_fulfils_them(tiny: Writer) -> None:
    check_schemas(tiny, 500)


def test_so_they_do_with_fifty_thousand_pieces(real: Writer) -> None:
    check_schemas(real, 40)


@pytest.mark.parametrize("at_start", [True, False], ids=["chat", "raw"])
@pytest.mark.parametrize("regex", REGEXES)
def test_an_expression_matches_the_whole_of_what_is_shown(
    regex: str, at_start: bool, writer: Writer
) -> None:
    grammar = writer.grammar("regex", regex)
    for seed in range(12):
        constraint = grammar.start(at_start=at_start)
        answer = writer.write(constraint, at_start=at_start, seed=seed)
        assert answer is not None
        assert re.fullmatch(regex, answer), answer


@pytest.mark.parametrize("at_start", [True, False], ids=["chat", "raw"])
@pytest.mark.parametrize("choices", CHOICES, ids=lambda choices: choices[0])
def test_a_choice_gives_one_of_its_texts_and_with_luck_each(
    choices: tuple[str, ...], at_start: bool, writer: Writer
) -> None:
    """With seven texts and sixty answers a false alarm is likelier than a failure to reach two."""
    grammar = writer.grammar("choice", choices)
    answers = set()
    for seed in range(60):
        constraint = grammar.start(at_start=at_start)
        answers.add(writer.write(constraint, at_start=at_start, seed=seed))
    assert answers <= set(choices)
    assert len(answers) > 1


def test_a_grammar_gives_sums_that_python_can_read(writer: Writer) -> None:
    sums = 'start: num (("+" | "*") num){0,4}\nnum: /[1-9][0-9]?/ | "(" start ")"'
    grammar = writer.grammar("lark", sums)
    for seed in range(20):
        answer = writer.write(grammar.start(at_start=True), at_start=True, seed=seed)
        if answer is not None:
            assert eval(answer) > 0


def test_white_space_in_json_has_an_end(tiny: Writer) -> None:
    """A weak model would write spaces for ever."""
    constraint = tiny.grammar("json_schema", '{"type": "array"}').start(at_start=True)
    for text in ("[", "\n", *[" "] * 24):
        token_id = next(
            i
            for i in range(tiny.tokenizer.vocab_size)
            if tiny.tokenizer.token_bytes(i) == text.encode() and constraint.allowed()[i]
        )
        constraint.accept(token_id)
    allowed = constraint.allowed().nonzero()[0].tolist()
    assert not any(tiny.tokenizer.token_bytes(i)[:1].isspace() for i in allowed)
