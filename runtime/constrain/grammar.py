"""Compiles what a request asks for: a schema, an expression, a choice or a grammar.

Takes a ConstraintSpec; gives a Grammar, which starts a Constraint for each answer. Compiling has
limits, so that no request takes seconds: see docs/constraints.md.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from runtime.constrain.follower import Follower
from runtime.constrain.json_schema import json_schema_grammar
from runtime.constrain.messages import reason
from runtime.constrain.vocabulary import Vocabulary
from runtime.errors import JsonSchemaError, ParameterError
from runtime.sampling.constraint import Constraint, ConstraintKind, ConstraintSpec
from runtime.text.tokenizer import Tokenizer

__all__ = ["Grammar", "GrammarCompiler", "check"]

Source: TypeAlias = dict[str, object]  # a grammar as llguidance reads it from JSON

MAX_BYTES: dict[ConstraintKind, int] = {
    "json_schema": 1 << 16,
    "regex": 1 << 14,
    "choice": 1 << 16,
    "lark": 1 << 14,
}
NAMES: dict[ConstraintKind, str] = {
    "json_schema": "the JSON schema",
    "regex": "the regular expression",
    "choice": "the choice",
    "lark": "the Lark grammar",
}

# An answer with a space before it: see Follower. Any token may come that spells what may come; none
# is forced because a tokenizer would choose it.
HEAD = '%llguidance {"no_forcing": true}\nstart: " " @answer'


class GrammarCompiler:
    """Compiles for one model.

    Args:
        tokenizer: the model's.
        vocab_size: ids that the model has.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._vocabulary = Vocabulary(tokenizer, vocab_size)

    def compile(self, spec: ConstraintSpec) -> "Grammar":
        """Compiles a constraint.

        Raises:
            JsonSchemaError: the JSON schema cannot be used.
            ParameterError: another constraint cannot be.
        """
        vocabulary = self._vocabulary
        return Grammar(vocabulary, _matcher(spec, vocabulary.tokens, vocabulary.space))


class Grammar:
    """A compiled constraint, for any number of answers."""

    def __init__(self, vocabulary: Vocabulary, matcher: LLMatcher) -> None:
        self._vocabulary, self._matcher = vocabulary, matcher

    def start(self, *, at_start: bool, stop_token_ids: Sequence[int] = ()) -> Constraint:
        """A constraint at the start of an answer.

        Args:
            at_start: the answer opens a text, as one to messages does; not one that goes on with a
                plain prompt.
            stop_token_ids: those of the request, which then stop the answer only where it may end.
        """
        return Follower(
            self._vocabulary,
            self._matcher.deep_copy(),
            at_start=at_start,
            stop_token_ids=stop_token_ids,
        )


def check(spec: ConstraintSpec) -> None:
    """Refuses what cannot be compiled for a model whose tokens are the single bytes.

    Raises:
        JsonSchemaError: the JSON schema cannot be used.
        ParameterError: another constraint cannot be.
    """
    _matcher(spec, LLTokenizer("byte"), ord(" "))


def _matcher(spec: ConstraintSpec, tokens: LLTokenizer, space: int) -> LLMatcher:
    """At the start of the grammar, before the space."""
    _check_text(spec)
    grammars = [{"lark_grammar": HEAD}, {**SOURCES[spec.kind](spec.value), "name": "answer"}]
    text = json.dumps({"grammars": grammars})
    matcher = LLMatcher(tokens, text, log_level=0, limits=_limits())
    if not matcher.is_error():
        _try_first_step(matcher, space)
    if matcher.is_error():
        raise _refusal(
            spec,
            f"{NAMES[spec.kind]} cannot be followed",
            got=reason(matcher.get_error()),
            next_step="correct or simplify it",
        )
    return matcher


def _try_first_step(matcher: LLMatcher, space: int) -> None:
    """Leaves an error where no answer is allowed, or where one could not be taken back."""
    matcher.consume_token(space)
    matcher.compute_bitmask()
    matcher.rollback(1)


def _limits() -> LLParserLimits:
    """Each also keeps a step of an answer short; of memory, 50,000 states are 100 MB."""
    return LLParserLimits(
        initial_lexer_fuel=200_000,
        max_lexer_states=50_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


def _check_text(spec: ConstraintSpec) -> None:
    name, allowed = NAMES[spec.kind], MAX_BYTES[spec.kind]
    texts = (spec.value,) if isinstance(spec.value, str) else spec.value
    if not texts:
        raise _refusal(spec, f"{name} is empty", allowed="one text or more")
    try:
        num_bytes = sum(len(text.encode()) for text in texts)
    except UnicodeEncodeError as error:
        got = f"lone surrogate {error.object[error.start]!a}"
        raise _refusal(spec, f"{name} is not valid Unicode", got=got) from error
    if num_bytes > allowed:
        raise _refusal(
            spec,
            f"{name} is too large",
            got=f"{num_bytes} bytes",
            allowed=f"up to {allowed}",
            next_step="shorten it",
        )


def _refusal(
    spec: ConstraintSpec,
    what: str,
    got: str | None = None,
    allowed: str | None = None,
    next_step: str | None = None,
) -> ParameterError:
    if spec.kind == "json_schema":
        return JsonSchemaError(what, got=got, allowed=allowed, next_step=next_step)
    return ParameterError(what, got=got, allowed=allowed, next_step=next_step, param=spec.kind)


def _regex_grammar(regex: str) -> Source:
    """All of the answer must match, so anchors at both ends say nothing new."""
    unanchored = regex.removeprefix("^")
    body = unanchored.removesuffix("$")
    escapes = len(body) - len(body.rstrip("\\"))
    inner = body if escapes % 2 == 0 else unanchored
    source: Source = json.loads(LLMatcher.grammar_from_regex(inner))["grammars"][0]
    return source


def _choice_grammar(choices: tuple[str, ...]) -> Source:
    """One terminal: a rule with thousands of alternatives would exceed the parser's limits."""
    return {"lark_grammar": f"start: CHOICE\nCHOICE: {' | '.join(map(json.dumps, choices))}"}


def _lark_grammar(grammar: str) -> Source:
    return {"lark_grammar": grammar}


SOURCES: dict[ConstraintKind, Callable[[Any], Source]] = {
    "json_schema": json_schema_grammar,
    "regex": _regex_grammar,
    "choice": _choice_grammar,
    "lark": _lark_grammar,
}
