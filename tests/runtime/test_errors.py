"""Claims about errors: what a program can ask, the line that a person reads, the list of codes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import export.errors
import profiles
import runtime.server.errors
import toolchain.errors
from runtime.errors import CODES, ParameterError, PromptError, UserError, one_line
from runtime.sampling.params import SamplingParams, check_vocab
from runtime.text.alpaca2 import render
from runtime.text.stop_strings import StopStrings
from runtime.text.template import Message

ROOT = Path(__file__).parents[2]
PACKAGES = ("toolchain", "export", "runtime", "profiles")
ELSEWHERE = (
    export.errors.ConfigError,
    profiles.ProfileError,
    runtime.server.errors.HttpError,
    toolchain.errors.TargetError,
)


def classes(base: type[UserError] = UserError) -> Iterator[type[UserError]]:
    yield base
    for derived in base.__subclasses__():
        yield from classes(derived)


def calls() -> Iterator[tuple[str, str, dict[str, ast.expr]]]:
    """Every call of something that is named as an error is: place, name, named arguments."""
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=name)) if name.endswith("Error"):
                    place = f"{file.relative_to(ROOT)}:{node.lineno}"
                    yield place, name, {word.arg or "": word.value for word in node.keywords}


def spelled(value: ast.expr) -> set[str | None]:
    """The codes that an argument may be; each is written out where it is raised."""
    match value:
        case ast.Constant(value=str() | None as code):
            return {code}
        case ast.IfExp(body=body, orelse=orelse):
            return spelled(body) | spelled(orelse)
    raise AssertionError(f"a code that is not written out: {ast.unparse(value)}")


def test_an_error_keeps_its_parts_and_reads_as_one_line() -> None:
    error = UserError("no\nlook", got=3, allowed="1 or 2", next_step="take  1", param="look")
    assert (error.what, error.got, error.allowed) == ("no\nlook", 3, "1 or 2")
    assert (error.next_step, error.code, error.param) == ("take  1", "user_error", "look")
    assert str(error) == one_line(error) == "no look; got 3; allowed: 1 or 2; take 1"
    assert str(UserError("no look", got=0)) == "no look; got 0"
    assert UserError("no look", code="busy").code == "busy"


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [each.code for each in classes()]
    assert set(ELSEWHERE) < set(classes())
    assert len(set(codes)) == len(codes)


def test_every_code_that_is_raised_is_listed_and_every_listed_one_is_raised() -> None:
    raised: set[str | None] = {each.code for each in classes()}
    for _, _, arguments in calls():
        raised |= spelled(arguments["code"]) if "code" in arguments else set()
    assert raised - {None} == set(CODES)


def test_every_setting_that_is_refused_is_named() -> None:
    unnamed = [
        place
        for place, name, arguments in calls()
        if name == "ParameterError" and "param" not in arguments
    ]
    assert not unnamed


@pytest.mark.parametrize(
    ("values", "param", "code"),
    [
        ({"temperature": -1.0}, "temperature", "invalid_value"),
        ({"top_k": "many"}, "top_k", "invalid_value"),
        ({"logit_bias": {3: 101.0}}, "logit_bias", "invalid_value"),
        ({"stop_token_ids": (1, None)}, "stop_token_ids", "invalid_value"),
        ({"temprature": 1.0}, "temprature", "unknown_parameter"),
    ],
)
def test_a_refused_setting_names_the_field_and_whether_there_is_such_a_one(
    values: dict[str, object], param: str, code: str
) -> None:
    with pytest.raises(ParameterError) as refusal:
        SamplingParams.model_validate(values)
    assert (refusal.value.param, refusal.value.code) == (param, code)


def test_settings_that_are_none_at_all_have_no_field_at_fault() -> None:
    with pytest.raises(ParameterError) as refusal:
        SamplingParams.model_validate(3)
    assert (refusal.value.param, refusal.value.code) == (None, "invalid_value")


@pytest.mark.parametrize("params", [{"logit_bias": {8: 1.0}}, {"stop_token_ids": (-1,)}])
def test_an_id_outside_the_vocabulary_names_the_field(params: dict[str, object]) -> None:
    with pytest.raises(ParameterError) as refusal:
        check_vocab(SamplingParams.model_validate(params), vocab_size=8)
    assert refusal.value.param in params


def test_stop_strings_and_messages_are_named_too() -> None:
    with pytest.raises(ParameterError) as refusal:
        StopStrings(["a", ""])
    assert refusal.value.param == "stop"
    for messages in [], [Message(role="user", content=" ")]:
        with pytest.raises(PromptError) as blame:
            render(messages)
        assert (blame.value.param, blame.value.code) == ("messages", "invalid_prompt")
