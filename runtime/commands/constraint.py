"""What the answer of a command must be: read from its options, and opened for its model."""

from functools import partial
from pathlib import Path

import typer

from runtime.constrain import check_constraint, open_compiler
from runtime.errors import JsonSchemaError, ParameterError
from runtime.json_file import read_file
from runtime.sampling.constraint import ConstraintSpec, StartConstraint
from runtime.sampling.params import SamplingParams
from runtime.text.tokenizer import Tokenizer
from runtime.text.typed import from_argument, from_bytes

__all__ = ["read_constraint", "starter"]


def read_constraint(
    json_schema: Path | None, regex: str | None, choices: list[str] | None, lark: Path | None
) -> ConstraintSpec | None:
    """The constraint that one of the options gives, checked; None where none is given.

    Raises:
        BadParameter: more than one is given.
        ParameterError: it cannot be followed, its file cannot be read, or llguidance is missing.
        PromptError: it is not UTF-8.
    """
    options = {"--json-schema": json_schema, "--regex": regex, "--choice": choices, "--lark": lark}
    given = [name for name, value in options.items() if value]
    if len(given) > 1:
        raise typer.BadParameter(f"only one of {' and '.join(given)} can bind the answer.")
    if json_schema is not None:
        data = read_file(json_schema, JsonSchemaError)
        spec = ConstraintSpec(kind="json_schema", value=from_bytes(data, str(json_schema)))
    elif regex is not None:
        spec = ConstraintSpec(kind="regex", value=from_argument(regex, "--regex"))
    elif choices:
        texts = tuple(from_argument(each, "--choice") for each in choices)
        spec = ConstraintSpec(kind="choice", value=texts)
    elif lark is not None:
        grammar = from_bytes(read_file(lark, ParameterError), str(lark))
        spec = ConstraintSpec(kind="lark", value=grammar)
    else:
        return None
    check_constraint(spec)
    return spec


def starter(
    params: SamplingParams, tokenizer: Tokenizer, vocab_size: int, *, at_start: bool
) -> StartConstraint | None:
    """Starts the constraint of the settings for each answer; at_start is as in Grammar.start."""
    if params.constraint is None:
        return None
    grammar = open_compiler(tokenizer, vocab_size).compile(params.constraint)
    return partial(grammar.start, at_start=at_start, stop_token_ids=params.stop_token_ids)
