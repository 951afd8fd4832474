"""The tokenizer that a bundle holds, with the template of its prompts: two table look-ups."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from runtime.bundle.manifest import TemplateKind, TokenizerKind
from runtime.bundle.reader import ADDED_TOKENS, CHAT_TEMPLATE, TOKENIZER, TOKENIZER_JSON, Bundle
from runtime.errors import BundleError
from runtime.json_file import read_file
from runtime.record import first_problem
from runtime.text.added_tokens import AddedTokens
from runtime.text.template import Template
from runtime.text.tokenizer import Tokenizer

__all__ = ["open_tokenizer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """What opens a file of a bundle; imported when chosen, since some need packages of their own.

    file: of the bundle; empty where none is needed.
    """

    file: str
    module: str
    name: str


TOKENIZERS: dict[TokenizerKind, Opener] = {
    "sentencepiece": Opener(
        file=TOKENIZER,
        module="runtime.text.sentencepiece_tokenizer",
        name="SentencePieceTokenizer",
    ),
    "tokenizers": Opener(
        file=TOKENIZER_JSON, module="runtime.text.hf_tokenizer", name="HfTokenizer"
    ),
}
TEMPLATES: dict[TemplateKind, Opener] = {
    "alpaca2": Opener(file="", module="runtime.text.alpaca2", name="Alpaca2Template"),
    "jinja": Opener(file=CHAT_TEMPLATE, module="runtime.text.jinja_template", name="JinjaTemplate"),
    "none": Opener(file="", module="runtime.text.no_template", name="NoTemplate"),
}


def open_tokenizer(bundle: Bundle) -> Tokenizer:
    """The tokenizer of a bundle, with its added tokens and its template.

    Raises:
        BundleError: a file of it cannot be used, or needs a package that is not installed.
    """
    manifest = bundle.manifest
    template: Template = _open(bundle, TEMPLATES[manifest.template])
    added = _added_tokens(bundle)
    tokenizer: Tokenizer = _open(bundle, TOKENIZERS[manifest.tokenizer], added, template)
    return tokenizer


def _open(bundle: Bundle, opener: Opener, *arguments: object) -> Any:
    try:
        make: Callable[..., Any] = getattr(import_module(opener.module), opener.name)
    except ModuleNotFoundError as error:
        raise BundleError(
            f"{opener.file} of {bundle.path} needs the Python package {error.name}",
            next_step="run: pip install 'alpaca2-toolchain[hf]'",
            code="unsupported_parameter",
        ) from error
    files = [bundle.file(opener.file)] if opener.file else []
    return make(*files, *arguments)


def _added_tokens(bundle: Bundle) -> AddedTokens:
    if ADDED_TOKENS not in bundle.manifest.files:
        return AddedTokens(tokens=())
    file = bundle.file(ADDED_TOKENS)
    try:
        return AddedTokens.model_validate_json(read_file(file, BundleError))
    except ValidationError as error:
        raise BundleError(f"{file}: {first_problem(error)}") from error
