"""Claims about the sampling options: they are the fields of SamplingParams, on every command."""

import re
from collections.abc import Iterator
from inspect import signature
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from runtime.cli import COMMANDS
from runtime.commands.options import (
    NOT_OPTIONS,
    SAMPLING_OPTIONS,
    Settings,
    with_sampling_options,
)
from runtime.sampling.params import SamplingParams

GIVEN: dict[str, tuple[list[str], object]] = {
    "max_tokens": (["--max-tokens", "7"], 7),
    "temperature": (["--temperature", "2"], 2.0),
    "top_k": (["--top-k", "3"], 3),
    "top_p": (["--top-p", "0.5"], 0.5),
    "min_p": (["--min-p", "0.25"], 0.25),
    "repetition_penalty": (["--repetition-penalty", "1.5"], 1.5),
    "presence_penalty": (["--presence-penalty", "-1"], -1.0),
    "frequency_penalty": (["--frequency-penalty", "2"], 2.0),
    "logit_bias": (["--logit-bias", "5=-1.5", "--logit-bias", "6=1"], {5: -1.5, 6: 1.0}),
    "seed": (["--seed", str(-(2**63))], -(2**63)),
    "stop_token_ids": (["--stop-token-id", "5", "--stop-token-id", "6"], (5, 6)),
    "ignore_eos": (["--ignore-eos"], True),
}


def settings_of(*arguments: str) -> Settings:
    """What a command with the options gets."""
    seen: list[Settings] = []

    @with_sampling_options
    def command(word: str, settings: Settings) -> None:
        seen.append(settings)

    app = typer.Typer()
    app.command()(command)
    outcome = CliRunner().invoke(app, ["word", *arguments])
    assert outcome.exit_code == 0, outcome.output
    [settings] = seen
    return settings


def bounds(schema: Any) -> Iterator[float]:
    """Every end of a range that a JSON schema names."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("minimum", "exclusiveMinimum", "maximum"):
                yield value
            else:
                yield from bounds(value)
    elif isinstance(schema, list):
        for part in schema:
            yield from bounds(part)


def test_every_field_is_an_option_or_has_a_reason_not_to_be_one() -> None:
    assert sorted([*SAMPLING_OPTIONS, *NOT_OPTIONS]) == sorted(SamplingParams.model_fields)
    assert all(NOT_OPTIONS.values())


SERVE = ("runtime.commands.serve", "runtime.commands.batch")  # whose requests bring their settings
SAMPLING = [module for module, _ in COMMANDS if module.__name__ not in SERVE]


@pytest.mark.parametrize("module", SAMPLING, ids=lambda module: module.__name__)
def test_every_command_that_samples_has_every_option(module: Any) -> None:
    parameters = signature(module.command).parameters
    assert set(SAMPLING_OPTIONS) < set(parameters)
    assert "settings" not in parameters


@pytest.mark.parametrize("field", SAMPLING_OPTIONS)
def test_an_option_becomes_the_field_and_no_other(field: str) -> None:
    arguments, value = GIVEN[field]
    assert settings_of(*arguments) == {field: value}
    assert getattr(SamplingParams(**settings_of(*arguments)), field) == value


def test_options_add_up_and_none_need_be_given() -> None:
    everything = [argument for arguments, _ in GIVEN.values() for argument in arguments]
    assert settings_of(*everything) == {field: value for field, (_, value) in GIVEN.items()}
    assert settings_of() == {}


def test_a_zero_is_given_too() -> None:
    """It takes back what the model's makers chose."""
    settings = settings_of("--temperature", "0", "--top-k", "0")
    assert settings == {"temperature": 0.0, "top_k": 0}


@pytest.mark.parametrize("field", SAMPLING_OPTIONS)
def test_the_help_names_the_ends_of_the_range(field: str) -> None:
    schema = SamplingParams.model_json_schema()["properties"][field]
    numbers = re.findall(r"-?\d+(?:\.\d+)?", SAMPLING_OPTIONS[field].help)
    told = {float(number) for number in numbers}
    words: dict[float, float] = {-(2**63): 64, 2**63 - 1: 64}  # the ends of what has 64 bits
    assert {words.get(bound, bound) for bound in bounds(schema)} <= told
