"""Claims about settings as they are typed: every sampling option, with its range."""

from typing import Any

import pytest

from runtime.commands.chat_settings import field_named, setting_rows, value_of
from runtime.commands.options import SAMPLING_OPTIONS
from runtime.errors import ParameterError
from runtime.sampling.params import SamplingParams

TYPED: dict[str, tuple[str, object]] = {
    "max_tokens": ("7", 7),
    "temperature": ("0.2", 0.2),
    "top_k": ("3", 3),
    "top_p": ("1e-9", 1e-9),
    "min_p": ("0.25", 0.25),
    "repetition_penalty": ("1.5", 1.5),
    "presence_penalty": ("-1", -1.0),
    "frequency_penalty": ("2", 2.0),
    "logit_bias": ("5=-1.5  6=1", {5: -1.5, 6: 1.0}),
    "seed": ("-9223372036854775808", -(2**63)),
    "stop_token_ids": ("5 6", (5, 6)),
    "ignore_eos": ("true", True),
}


@pytest.mark.parametrize("field", SAMPLING_OPTIONS)
def test_every_option_is_read_and_shown_as_it_is_typed(field: str) -> None:
    text, value = TYPED[field]
    assert value_of(field, text) == value
    params = SamplingParams(**{field: value_of(field, text)})
    shown = {name: shown for name, shown, _ in setting_rows({field: value}, params)}
    assert shown[field].endswith(" *")
    assert value_of(field, shown[field].removesuffix(" *")) == value


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("temperature", "200", "got 200.0; allowed: number >= 0 and <= 100"),
        ("temperature", "nan", "allowed: number >= 0 and <= 100"),
        ("temperature", "none", "got None; allowed: number >= 0 and <= 100"),
        ("temperature", "warm", "temperature cannot be read; got 'warm'; allowed: a number, "),
        ("top_p", "0", "got 0.0; allowed: number > 0 and <= 1"),
        ("top_k", "1.5", "top_k cannot be read; got '1.5'; allowed: a whole number, "),
        ("seed", "9" * 5000, "seed cannot be read; got '99999"),
        ("ignore_eos", "yes", "got 'yes'; allowed: true or false, none or default"),
        ("logit_bias", "5", "logit_bias cannot be read; got '5'; allowed: ID=VALUE ..., "),
        ("logit_bias", "5=101", "allowed: object of number >= -100 and <= 100"),
        ("stop_token_ids", "a", "allowed: ID ID ..., none or default"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_range(field: str, text: str, says: str) -> None:
    with pytest.raises(ParameterError) as refusal:
        value_of(field, text)
    assert says in str(refusal.value)
    assert refusal.value.param == field


@pytest.mark.parametrize(
    ("field", "value"), [("seed", None), ("max_tokens", None), ("logit_bias", {})]
)
def test_none_takes_a_limit_or_a_list_away(field: str, value: Any) -> None:
    assert value_of(field, "none") == value


def test_a_dash_is_as_good_as_an_underscore_and_other_names_are_refused() -> None:
    assert field_named("top-p") == "top_p"
    for name in ("colour", "logprobs", "max_length"):
        with pytest.raises(ParameterError, match=rf"no setting {name}; allowed: max_tokens, "):
            field_named(name)
