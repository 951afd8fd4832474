"""Answers that are bound to a JSON schema, a regular expression, a choice or a grammar.

Knows tokenizers and grammars, not models. llguidance is imported when it is needed, here alone.
"""

from typing import TYPE_CHECKING

from runtime.errors import ParameterError
from runtime.sampling.constraint import ConstraintSpec
from runtime.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from runtime.constrain.grammar import GrammarCompiler

__all__ = ["check_constraint", "open_compiler"]


def check_constraint(spec: ConstraintSpec) -> None:
    """Refuses what cannot be compiled, before a model is opened.

    Raises:
        JsonSchemaError: the JSON schema cannot be used.
        ParameterError: another constraint cannot be, or llguidance is not installed.
    """
    try:
        from runtime.constrain.grammar import check
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    check(spec)


def open_compiler(tokenizer: Tokenizer, vocab_size: int) -> "GrammarCompiler":
    """Makes the compiler of a model; it takes a moment, and serves every request.

    Args:
        tokenizer: the model's.
        vocab_size: ids that the model has, perhaps more than its tokenizer.

    Raises:
        ParameterError: llguidance is not installed.
    """
    try:
        from runtime.constrain.grammar import GrammarCompiler
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    return GrammarCompiler(tokenizer, vocab_size)


def _not_installed(error: ModuleNotFoundError) -> ParameterError:
    return ParameterError(
        f"an answer bound to a schema or grammar needs the Python package {error.name}",
        next_step="install alpaca2-toolchain[constrain]",
        code="unsupported_parameter",
        param="constraint",
    )
