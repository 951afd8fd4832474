"""What the JSON files beside tokenizer.model say of tokens: added ones, special ones, their names.

Read as transformers reads them: tokenizer_config.json with added_tokens_decoder alone, else
special_tokens_map.json, added_tokens.json and tokenizer.json together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from export.errors import CheckpointError
from runtime.bundle.reader import TOKENIZER_JSON
from runtime.json_file import read_object
from runtime.record import first_problem
from runtime.text.added_tokens import AddedToken

__all__ = ["TOKENIZER_CONFIG", "UNUSED_ROLES", "TokenLists", "read_optional", "read_token_lists"]

TOKENIZER_CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"
SPECIAL = "special_tokens_map.json"
DECODER = "added_tokens_decoder"
# In the order in which transformers gives ids to those that have none.
ROLES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
UNUSED_ROLES = ("sep_token", "pad_token", "cls_token", "mask_token")  # by a decoder
MORE_SPECIAL = ("additional_special_tokens", "extra_special_tokens")
FLAGS = ("special", "single_word", "lstrip", "rstrip", "normalized")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLists:
    """Tokens that a checkpoint lists.

    tokens: those with an id, each once.
    roles: bos_token and the like, and the text of each.
    special: texts that are special without a role.
    """

    tokens: tuple[AddedToken, ...]
    roles: dict[str, str]
    special: tuple[str, ...]


def read_optional(file: Path) -> dict[str, Any]:
    """What a file says, {} where there is none.

    Raises:
        CheckpointError: it is there and cannot be used; a link to nowhere is there.
    """
    there = file.exists() or file.is_symlink()
    return read_object(file, CheckpointError) if there else {}


def read_token_lists(model: Path) -> TokenLists:
    """What the files of a model directory say.

    Raises:
        CheckpointError: a file cannot be used, or two disagree about a token.
    """
    config = read_optional(model / TOKENIZER_CONFIG)
    special_map = read_optional(model / SPECIAL)
    named = config if config.get(DECODER) else {**config, **special_map}
    roles = {role: text for role in ROLES if (text := _content(named.get(role)))}
    listed = [_content(each) for key in MORE_SPECIAL for each in _values(named.get(key))]
    special = tuple(dict.fromkeys(text for text in listed if text))
    invisible = {*roles.values(), *special}
    tokens: dict[int, AddedToken] = {}
    for file, token in _tokens(model, config, invisible):
        known = tokens.setdefault(token.id, token)
        if known.content != token.content:
            raise _disagreement(file, token, known)
    by_text: dict[str, AddedToken] = {}
    for token in tokens.values():
        known = by_text.setdefault(token.content, token)
        if known.id != token.id:
            raise _disagreement(model / TOKENIZER_CONFIG, token, known)
    return TokenLists(tokens=tuple(tokens.values()), roles=roles, special=special)


def _tokens(
    model: Path, config: dict[str, Any], invisible: set[str]
) -> Iterator[tuple[Path, AddedToken]]:
    """Every listed token with its file; of one that stands in two, the first has the flags."""
    file = model / TOKENIZER_CONFIG
    for token_id, flags in _items(file, config.get(DECODER), DECODER):
        yield file, _token(file, token_id, flags, invisible)
    file = model / TOKENIZER_JSON
    for flags in _list(file, read_optional(file).get("added_tokens")):
        yield file, _token(file, flags.get("id"), flags, invisible)
    file = model / ADDED
    for text, token_id in read_optional(file).items():
        yield file, _token(file, token_id, {"content": text}, invisible)


def _token(file: Path, token_id: Any, flags: Any, invisible: set[str]) -> AddedToken:
    """A token; one that has a role is special, and one that is special is not normalized."""
    if isinstance(token_id, str) and token_id.isdecimal() and len(token_id) < 10:
        token_id = int(token_id)  # a key of a JSON object
    values = dict(flags) if isinstance(flags, dict) else {"content": flags}
    special = values.get("special", False) or _content(values) in invisible
    chosen = {"normalized": not special, **{key: values[key] for key in FLAGS if key in values}}
    text = values.get("content")
    try:
        return AddedToken.model_validate(
            {**chosen, "id": token_id, "content": text, "special": special}
        )
    except ValidationError as error:
        raise CheckpointError(f"{file}: added token {token_id}: {first_problem(error)}") from error


def _content(value: Any) -> str:
    """The text of a token that is written as a text or as an object; "" for none."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _values(value: Any) -> list[Any]:
    """Tokens of a list, or of an object by their names."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _items(file: Path, value: Any, key: str) -> list[tuple[str, Any]]:
    if value is not None and not isinstance(value, dict):
        raise CheckpointError(f"{file}: {key} is not an object", got=type(value).__name__)
    return list((value or {}).items())


def _list(file: Path, value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise CheckpointError(f"{file}: added_tokens is not a list of objects")
    return value


def _disagreement(file: Path, token: AddedToken, known: AddedToken) -> CheckpointError:
    return CheckpointError(
        f"{file} and another file beside it disagree about an added token",
        got=f"{token.content!a} with id {token.id}",
        allowed=f"{known.content!a} with id {known.id}",
        next_step="take both files from one checkpoint",
    )
