"""The tokenizer and the prompt template of a checkpoint -> what a bundle keeps of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.chat_template import read_chat_template
from export.errors import CheckpointError
from export.sentencepiece_files import read_sentencepiece
from export.token_lists import TOKENIZER_CONFIG, read_optional
from export.tokenizer_json import read_tokenizer_json
from runtime.bundle.manifest import ModelConfig, TemplateKind, TokenizerKind
from runtime.bundle.reader import ADDED_TOKENS, CHAT_TEMPLATE, TOKENIZER, TOKENIZER_JSON
from runtime.json_file import read_file
from runtime.text.added_tokens import AddedTokens

__all__ = ["TokenizerFiles", "has_tokenizer", "read_tokenizer"]

Read = Callable[[Path, bytes, dict[str, Any], int], tuple[AddedTokens, int]]

# By preference: which tokenizer a file is, and what reads the tokens beside it.
READERS: dict[str, tuple[TokenizerKind, Read]] = {
    TOKENIZER: ("sentencepiece", read_sentencepiece),
    TOKENIZER_JSON: ("tokenizers", read_tokenizer_json),
}
# How prompts are written where a checkpoint has no template: Alpaca-2's has a tokenizer.model.
WITHOUT_TEMPLATE: dict[TokenizerKind, TemplateKind] = {
    "sentencepiece": "alpaca2",
    "tokenizers": "none",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFiles:
    """What a bundle keeps of a tokenizer and of its prompt template.

    files: content by its name in the bundle.
    eos_token_id: of the token that ends an answer.
    """

    kind: TokenizerKind = "sentencepiece"
    template: TemplateKind = "alpaca2"
    files: dict[str, bytes]
    eos_token_id: int


def has_tokenizer(model: Path) -> bool:
    """Whether a directory has a tokenizer, be it a link to nowhere."""
    return any(_is_there(model / name) for name in READERS)


def read_tokenizer(model: Path, config: ModelConfig) -> TokenizerFiles:
    """Reads the tokenizer of a model directory: tokenizer.model, or tokenizer.json without it.

    Raises:
        CheckpointError: a file is missing or broken, or they do not belong to this model.
    """
    name = next((name for name in READERS if _is_there(model / name)), None)
    if name is None:
        raise CheckpointError(
            f"no {TOKENIZER} and no {TOKENIZER_JSON} in {model}",
            next_step="copy it beside the shards",
        )
    data = read_file(model / name, CheckpointError)
    settings = read_optional(model / TOKENIZER_CONFIG)
    kind, read = READERS[name]
    added, eos_token_id = read(model, data, settings, config.vocab_size)
    template = read_chat_template(model, settings)
    files = {name: data}
    if added != AddedTokens(tokens=(), space_before_each=added.space_before_each):
        files[ADDED_TOKENS] = (added.model_dump_json(indent=1) + "\n").encode()
    if template.kind == "jinja":
        files[CHAT_TEMPLATE] = template.source.encode()
    return TokenizerFiles(
        kind=kind,
        template=WITHOUT_TEMPLATE[kind] if template.kind == "none" else template.kind,
        files=files,
        eos_token_id=eos_token_id,
    )


def _is_there(file: Path) -> bool:
    return file.exists() or file.is_symlink()
