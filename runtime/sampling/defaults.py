"""Reads generation_config.json: what the model's makers sample with by default.

`export` reads the checkpoint's with it before any work, the runtime the bundle's.
"""

from pathlib import Path
from typing import Any

from runtime.bundle.reader import GENERATION_CONFIG, Bundle
from runtime.errors import BundleError, ParameterError, UserError
from runtime.json_file import read_object
from runtime.sampling.generation_keys import (
    FOLLOWED,
    HARMLESS,
    NEUTRAL,
    SAMPLING,
    SAMPLING_NEUTRAL,
)
from runtime.sampling.params import SamplingParams

__all__ = ["default_params", "params_from", "read_defaults"]

# What transformers takes where a file that samples does not say.
SAMPLING_DEFAULTS = {"temperature": 1.0, "top_k": 50}


def default_params(bundle: Bundle, eos_token_id: int) -> SamplingParams:
    """The sampling defaults of the bundle; greedy unless it says do_sample.

    Args:
        bundle: where the file lies.
        eos_token_id: the tokenizer's, for a file that names none.

    Raises:
        BundleError: as read_defaults.
    """
    return read_defaults(bundle.file(GENERATION_CONFIG), eos_token_id, BundleError)


def read_defaults(file: Path, eos_token_id: int, error: type[UserError]) -> SamplingParams:
    """The sampling defaults that a file gives.

    Raises:
        error: no JSON object, a value out of range, or a key that would change the answers and is
            not followed here.
    """
    return params_from(read_object(file, error), str(file), eos_token_id, error)


def params_from(
    config: dict[str, Any], name: str, eos_token_id: int, error: type[UserError]
) -> SamplingParams:
    """The sampling defaults that the keys of a file give; `name` is the file's.

    Raises:
        error: as read_defaults.
    """
    given = {key: value for key, value in config.items() if value is not None}
    samples = given.get("do_sample", False)
    if not isinstance(samples, bool):
        raise error(f"{name}: do_sample", got=repr(samples), allowed="true or false")
    _check_neutral(given, name, samples, error)
    fields = dict(FOLLOWED)
    values: dict[str, Any] = {"stop_token_ids": (eos_token_id,)}
    if samples:
        fields |= SAMPLING
        values |= SAMPLING_DEFAULTS
    for key, field in fields.items():
        if key in given:
            values[field] = _checked(key, field, given[key], name, error)
    if "max_tokens" in values:  # has precedence, as in transformers
        values.pop("max_length", None)
    return SamplingParams(**values)


def _check_neutral(given: dict[str, Any], name: str, samples: bool, error: type[UserError]) -> None:
    """Refuses a key that is not followed unless its value changes nothing."""
    known = {"do_sample", *FOLLOWED, *SAMPLING, *HARMLESS}
    neutral = NEUTRAL | SAMPLING_NEUTRAL if samples else NEUTRAL
    if not samples:
        known |= set(SAMPLING_NEUTRAL)
    for key, value in given.items():
        if key in known or key.startswith("_"):  # _from_model_config and other notes
            continue
        if key not in neutral:
            raise error(
                f"{name}: unknown key {key}", next_step="remove it if the answers do not need it"
            )
        allowed = neutral[key]
        if value not in allowed:
            raise error(
                f"{name}: {key} is not followed here",
                got=repr(value)[:80],
                allowed=" or ".join([*map(repr, allowed), "null"]),
                next_step="remove it if the answers do not need it",
            )


def _checked(key: str, field: str, value: Any, name: str, error: type[UserError]) -> Any:
    """The value of a field, which the range of the field allows."""
    if key == "eos_token_id":
        value = tuple(value) if isinstance(value, list) else (value,)
    try:
        SamplingParams(**{field: value})
    except ParameterError as caught:
        raise error(f"{name}: {key} cannot be used: {caught}") from caught
    return value
