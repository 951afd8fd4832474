"""Settings as they are typed in a chat: the sampling options, by the names of their fields."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from runtime.commands.options import SAMPLING_OPTIONS, Settings, TokenBias, read_bias
from runtime.errors import ParameterError
from runtime.sampling.params import SamplingParams

__all__ = ["DEFAULT", "field_named", "setting_rows", "value_of"]

DEFAULT = "default"  # in the place of a value: the model's own
NONE = "none"  # no limit, or of several values none
CHOSEN = "*"  # behind a value that is not the model's own
TRUTH = {"true": True, "false": False}

# How a value is read and what is wanted, by the type that its option has.
READERS: Mapping[Any, tuple[Callable[[str], object], str]] = {
    int: (int, "a whole number"),
    float: (float, "a number"),
    bool: (TRUTH.__getitem__, "true or false"),
    list[int]: (lambda text: [int(word) for word in text.split()], "ID ID ..."),
    list[TokenBias]: (lambda text: [read_bias(word) for word in text.split()], "ID=VALUE ..."),
}


def field_named(name: str) -> str:
    """The field that a name stands for; a dash is as good as an underscore.

    Raises:
        ParameterError: no setting has this name.
    """
    field = name.replace("-", "_")
    if field not in SAMPLING_OPTIONS:
        raise ParameterError(
            f"no setting {name}",
            allowed=", ".join(SAMPLING_OPTIONS),
            code="unknown_parameter",
            param=name,
        )
    return field


def value_of(field: str, text: str) -> Any:
    """The value that a text stands for; several are parted by spaces.

    Raises:
        ParameterError: it is not written as one, or not in the range of the field.
    """
    option = SAMPLING_OPTIONS[field]
    read, wanted = READERS[option.type]
    value: Any = None
    if text != NONE:
        try:
            value = read(text)
        except (KeyError, ValueError) as error:
            raise ParameterError(
                f"{field} cannot be read",
                got=repr(text[:40]),
                allowed=f"{wanted}, {NONE} or {DEFAULT}",
                param=field,
            ) from error
    if option.collect:
        value = option.collect(value or ())
    SamplingParams(**{field: value})  # which knows the range
    return value


def setting_rows(settings: Settings, params: SamplingParams) -> list[tuple[str, str, str]]:
    """Name, value and meaning of every setting; a star where the value was chosen."""
    return [
        (
            field,
            f"{_shown(getattr(params, field))} {CHOSEN if field in settings else ''}".strip(),
            option.help,
        )
        for field, option in SAMPLING_OPTIONS.items()
    ]


def _shown(value: object) -> str:
    """A value as `value_of` reads it."""
    if value is None:
        return NONE
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in value.items()) or NONE
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or NONE
    return json.dumps(value)
