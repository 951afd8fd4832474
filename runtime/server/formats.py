"""response_format: what an answer is bound to, as OpenAI's clients say it."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from runtime.constrain import open_compiler
from runtime.errors import ParameterError
from runtime.sampling.constraint import ConstraintSpec
from runtime.server.errors import HttpError
from runtime.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from runtime.constrain.grammar import Grammar

__all__ = ["Compile", "cached_compiler", "constraint_of"]

Compile = Callable[[ConstraintSpec], "Grammar"]
KEPT = 64  # formats that were compiled last; a client asks in the same one again
PARAM = "response_format"


def constraint_of(response_format: dict[str, Any] | None) -> ConstraintSpec | None:
    """The constraint of a request; None where its text is free.

    Raises:
        HttpError: another type than text, json_object and json_schema, or no schema.
    """
    kind = "text" if response_format is None else response_format.get("type")
    if response_format is None or kind == "text":
        return None
    if kind == "json_object":
        return ConstraintSpec(kind="json_schema", value='{"type": "object"}')
    if kind != "json_schema":
        raise HttpError(
            "no such format of answers",
            got=repr(kind)[:80],
            allowed="text, json_object, json_schema",
            code="unsupported_parameter",
            param=PARAM,
        )
    given = response_format.get("json_schema")
    schema = given.get("schema") if isinstance(given, dict) else None
    if not isinstance(schema, dict):
        raise HttpError(
            "the format has no schema",
            allowed='{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}',
            code="invalid_json_schema",
            param=PARAM,
        )
    return ConstraintSpec(kind="json_schema", value=json.dumps(schema, ensure_ascii=False))


def cached_compiler(tokenizer: Tokenizer, vocab_size: int) -> Compile:
    """Compiles the formats of requests; the vocabulary is read when the first one comes."""

    @lru_cache(maxsize=1)
    def compiler() -> Compile:
        return open_compiler(tokenizer, vocab_size).compile

    @lru_cache(maxsize=KEPT)
    def compiled(spec: ConstraintSpec) -> "Grammar":
        try:
            return compiler()(spec)
        except ParameterError as error:
            error.param = PARAM  # as the request calls it
            raise

    return compiled
