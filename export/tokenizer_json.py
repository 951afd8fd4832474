"""tokenizer.json and the files beside it -> the tokens besides, or why the runtime cannot read it.

What the runtime makes of every token is compared with what the library tokenizers makes of it.
"""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as LibraryTokenizer

from export.errors import CheckpointError
from export.token_lists import TOKENIZER_CONFIG, UNUSED_ROLES, TokenLists, read_token_lists
from runtime.bundle.reader import TOKENIZER_JSON
from runtime.errors import BundleError
from runtime.json_file import parse_json
from runtime.text.added_tokens import AddedToken, AddedTokens
from runtime.text.hf_tokenizer import HfTokenizer
from runtime.text.no_template import NoTemplate

__all__ = ["read_tokenizer_json"]

MAX_PADDING = 511  # rows that no token has: Qwen2.5 has 271
ROLES = ("bos_token", "eos_token", "unk_token")


def read_tokenizer_json(
    model: Path, data: bytes, settings: dict[str, Any], vocab_size: int
) -> tuple[AddedTokens, int]:
    """Reads a tokenizer.json and what is beside it.

    Args:
        model: the model directory.
        data: what the file holds.
        settings: what tokenizer_config.json says.
        vocab_size: rows of the model's vocabulary.

    Returns:
        Its added tokens and their roles, and the id of the one that ends an answer.

    Raises:
        CheckpointError: a file is broken, or they do not belong to this model.
    """
    file = model / TOKENIZER_JSON
    vocab = _vocabulary(file, data)
    lists = read_token_lists(model)
    tokens = {
        token.content: token for token in lists.tokens if _has_row(file, token, lists, vocab_size)
    }
    ids = {role: _role_id(file, role, lists, tokens, vocab) for role in ROLES}
    eos = ids["eos_token"]
    if eos is None:
        raise CheckpointError(
            f"{file.parent} names no eos_token", next_step=f"name one in {TOKENIZER_CONFIG}"
        )
    _check_rows(file, {*vocab.values(), *(token.id for token in tokens.values())}, vocab_size)
    library = _load(file, data)
    prefix = _before_texts(file, library)
    bos = ids["bos_token"] if ids["bos_token"] is not None else next(iter(prefix), None)
    if prefix not in ([], [bos]):
        raise CheckpointError(f"{file} puts more than BOS before a text", got=f"ids {prefix}")
    adds_bos = settings.get("add_bos_token")
    added = AddedTokens(
        tokens=tuple(sorted(tokens.values(), key=lambda token: token.id)),
        bos_token_id=bos,
        eos_token_id=eos,
        unk_token_id=ids["unk_token"],
        adds_bos=bool(prefix) if adds_bos is None else bool(adds_bos),
    )
    _check_as_read(file, library, added)
    return added, eos


def _vocabulary(file: Path, data: bytes) -> dict[str, int]:
    """The pieces of the model without added tokens, by their names."""
    document = parse_json(data, str(file), CheckpointError)
    table = document.get("model") if isinstance(document, dict) else None
    kind = table.get("type", "BPE") if isinstance(table, dict) else None
    vocab = table.get("vocab") if isinstance(table, dict) else None
    if kind != "BPE" or not isinstance(vocab, dict):
        raise CheckpointError(
            f"{file} has another kind of model", got=kind, allowed="BPE, with a vocabulary"
        )
    if sorted(map(repr, vocab.values())) != sorted(map(repr, range(len(vocab)))):
        raise CheckpointError(f"{file}: the ids of the vocabulary are not 0 to {len(vocab) - 1}")
    return vocab


def _load(file: Path, data: bytes) -> LibraryTokenizer:
    try:
        return LibraryTokenizer.from_buffer(data)
    except ValueError as error:
        raise CheckpointError(
            f"{file} cannot be loaded", got=error, next_step="download it again"
        ) from error


def _has_row(file: Path, token: AddedToken, lists: TokenLists, vocab_size: int) -> bool:
    """Whether the model has a row for a token, which roles without use may lack."""
    if token.id < vocab_size:
        return True
    if any(lists.roles.get(role) == token.content for role in UNUSED_ROLES):
        return False
    raise CheckpointError(
        f"{file.parent}: the added token {token.content!a} has no row in the model",
        got=f"id {token.id}",
        allowed=f"up to {vocab_size - 1}",
        next_step="take the tokenizer's files from the checkpoint of this model",
    )


def _role_id(
    file: Path, role: str, lists: TokenLists, tokens: dict[str, AddedToken], vocab: dict[str, int]
) -> int | None:
    """The id of a role; a piece that has one becomes an added token, so that it is invisible."""
    text = lists.roles.get(role)
    if text is None:
        return None
    if text not in tokens:
        if text not in vocab:
            raise CheckpointError(
                f"{file.parent}: the {role} {text!a} is no token of {file.name}",
                next_step="take the tokenizer's files from the checkpoint of this model",
            )
        tokens[text] = AddedToken(id=vocab[text], content=text, special=True, normalized=False)
    return tokens[text].id


def _check_rows(file: Path, ids: set[int], vocab_size: int) -> None:
    """Refuses a tokenizer that does not account for the rows of the vocabulary."""
    if max(ids) >= vocab_size or vocab_size - len(ids) > MAX_PADDING:
        raise CheckpointError(
            f"{file} is not the tokenizer of this model",
            got=f"{len(ids)} tokens",
            allowed=f"{vocab_size}, or up to {MAX_PADDING} fewer for a padded vocabulary",
            next_step="take the tokenizer's files from the checkpoint of this model",
        )


def _before_texts(file: Path, library: LibraryTokenizer) -> list[int]:
    """The ids that the library puts before a text."""
    bare: list[int] = library.encode("a", add_special_tokens=False).ids
    whole: list[int] = library.encode("a").ids
    before = whole[: len(whole) - len(bare)]
    if whole != before + bare:
        raise CheckpointError(
            f"{file} puts tokens after a text", got=f"ids {whole} for a letter", allowed="none"
        )
    return before


def _check_as_read(file: Path, library: LibraryTokenizer, added: AddedTokens) -> None:
    """Compares every token as the runtime reads it with what the library makes of it."""
    try:
        ours = HfTokenizer(file, added, NoTemplate())
    except BundleError as error:
        raise CheckpointError(f"{file}: {error.what}", got=error.got) from error
    for token in added.tokens:
        if not token.special and ours.encode(token.content) != [token.id]:
            raise CheckpointError(
                f"{file}: the library tokenizers gives {token.content!a} another id",
                got=f"ids {ours.encode(token.content)}",
                allowed=f"id {token.id}",
                next_step="take the tokenizer's files from one checkpoint",
            )
    for token_id in range(library.get_vocab_size()):
        twice = ours.token_bytes(token_id, at_start=True) + ours.token_bytes(token_id)
        theirs = library.decode([token_id, token_id], skip_special_tokens=False)
        if not ours.is_control(token_id) and twice.decode(errors="replace") != theirs:
            raise CheckpointError(
                f"{file}: its decoder is none that the runtime knows",
                got=f"{theirs!a} for twice the token {ours.name(token_id)!a}",
                allowed="BPE over bytes, or with U+2581 for spaces and a byte fallback",
            )
