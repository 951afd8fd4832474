"""tokenizer.model and the files beside it -> the tokens besides, or why they are not the model's.

Pieces and added tokens must account for every row of the model's vocabulary.
"""

from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from export.errors import CheckpointError
from export.token_lists import (
    TOKENIZER_CONFIG,
    UNUSED_ROLES,
    TokenLists,
    read_optional,
    read_token_lists,
)
from runtime.bundle.reader import TOKENIZER, TOKENIZER_JSON
from runtime.text.added_tokens import AddedToken, AddedTokens

__all__ = ["MAX_PADDING", "read_sentencepiece"]

# Rows that no token has: a vocabulary is often padded to a multiple of 64 or 128.
MAX_PADDING = 127
# Settings of tokenizer_config.json that change which ids a text has, with the values that the
# runtime implements; an absent one has the first.
FIXED: dict[str, tuple[object, ...]] = {
    "add_bos_token": (True, None),
    "add_eos_token": (False, None),
    "do_lower_case": (False, None),
    "sp_model_kwargs": ({}, None),
}


def read_sentencepiece(
    model: Path, data: bytes, settings: dict[str, Any], vocab_size: int
) -> tuple[AddedTokens, int]:
    """Reads what is beside a tokenizer.model.

    Args:
        model: the model directory.
        data: what the file holds.
        settings: what tokenizer_config.json says.
        vocab_size: rows of the model's vocabulary.

    Returns:
        Tokens besides those of the file, and the id of the one that ends an answer.

    Raises:
        CheckpointError: a file is broken, or they do not belong to this model.
    """
    file = model / TOKENIZER
    processor = _processor(file, data)
    for key, allowed in FIXED.items():
        if settings.get(key, allowed[0]) not in allowed:
            raise CheckpointError(
                f"{model / TOKENIZER_CONFIG}: {key}", got=settings[key], allowed=str(allowed[0])
            )
    if processor.vocab_size() > vocab_size:
        raise CheckpointError(
            f"{file} has more pieces than the model",
            got=processor.vocab_size(),
            allowed=f"up to {vocab_size}",
        )
    _check_pieces(model / TOKENIZER_JSON, processor)
    lists = read_token_lists(model)
    _check_rows(file, processor.vocab_size(), lists.tokens, vocab_size)
    added = _added_tokens(file, processor, lists, settings, vocab_size)
    eos: int = processor.eos_id() if added.eos_token_id is None else added.eos_token_id
    return added, eos


def _processor(file: Path, data: bytes) -> Any:
    processor: Any = SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(data)
        processor.id_to_piece(list(range(processor.vocab_size())))  # each is valid text
    except (RuntimeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{file} is not a SentencePiece model",
            got="an empty file" if not data else None,
            next_step="download it again",
        ) from error
    return processor


def _check_pieces(file: Path, processor: Any) -> None:
    """tokenizer.json, which transformers prefers, must have the pieces of tokenizer.model."""
    document = read_optional(file)
    table = document.get("model")
    vocab = table.get("vocab") if isinstance(table, dict) else None
    if isinstance(vocab, list):  # of pieces and scores
        vocab = {each[0]: i for i, each in enumerate(vocab) if isinstance(each, list) and each}
    if vocab is None:
        return
    if not isinstance(vocab, dict):
        raise CheckpointError(f"{file}: the vocabulary is not an object")
    pieces = {processor.id_to_piece(i): i for i in range(processor.vocab_size())}
    for piece in sorted(set(vocab) ^ set(pieces)) + sorted(pieces):
        if vocab.get(piece) != pieces.get(piece):
            raise _other_pieces(file, piece, vocab.get(piece), pieces.get(piece))


def _other_pieces(file: Path, piece: str, got: Any, allowed: int | None) -> CheckpointError:
    return CheckpointError(
        f"{file} is not {TOKENIZER} in another form: {piece!a}",
        got=f"id {got}" if got is not None else "no such piece",
        allowed=f"id {allowed}" if allowed is not None else "no such piece",
        next_step="take both from one checkpoint, or remove the one that is not the model's",
    )


def _added_tokens(
    file: Path, processor: Any, lists: TokenLists, settings: dict[str, Any], vocab_size: int
) -> AddedTokens:
    """The listed tokens that change something, and the special ones that were given no id."""
    kept = [token for token in lists.tokens if _counts(file, processor, token, lists, vocab_size)]
    ids = {token.content: token.id for token in lists.tokens}
    next_id = max([processor.vocab_size(), *(token.id + 1 for token in kept)])
    names = [*lists.roles.items(), *(("special token", text) for text in lists.special)]
    for role, text in names:
        if text in ids:
            continue
        piece = processor.piece_to_id(text)
        if processor.id_to_piece(piece) == text:
            ids[text] = piece
            if not processor.is_control(piece) and not processor.is_unknown(piece):
                kept.append(AddedToken(id=piece, content=text, special=True, normalized=False))
        elif next_id < vocab_size:
            ids[text] = next_id
            kept.append(AddedToken(id=next_id, content=text, special=True, normalized=False))
            next_id += 1
        elif role not in UNUSED_ROLES:
            raise CheckpointError(
                f"{file.parent}: the {role} {text!a} has no row in the model",
                allowed=f"{vocab_size} tokens",
                next_step="take the tokenizer's files from the checkpoint of this model",
            )
    bos, eos = (
        _role_id(file, lists, ids, role, own)
        for role, own in (("bos_token", processor.bos_id()), ("eos_token", processor.eos_id()))
    )
    return AddedTokens(
        tokens=tuple(sorted(kept, key=lambda token: token.id)),
        space_before_each=settings.get("legacy") is True,
        bos_token_id=bos,
        eos_token_id=eos,
    )


def _role_id(file: Path, lists: TokenLists, ids: dict[str, int], role: str, own: int) -> int | None:
    """The id of BOS or EOS where it is not the SentencePiece model's own."""
    token_id = ids[lists.roles[role]] if role in lists.roles else own
    if token_id < 0:
        raise CheckpointError(f"{file} has no {role}", next_step=f"name one in {TOKENIZER_CONFIG}")
    return None if token_id == own else token_id


def _counts(
    file: Path, processor: Any, token: AddedToken, lists: TokenLists, vocab_size: int
) -> bool:
    """Whether an added token is more than the SentencePiece model says already.

    Raises:
        CheckpointError: it contradicts a piece, or the model has no row for it.
    """
    if token.id >= vocab_size:
        if any(lists.roles.get(role) == token.content for role in UNUSED_ROLES):
            return False
        raise CheckpointError(
            f"{file.parent}: the added token {token.content!a} has no row in the model",
            got=f"id {token.id}",
            allowed=f"up to {vocab_size - 1}",
            next_step="take the tokenizer's files from the checkpoint of this model",
        )
    if token.id >= processor.vocab_size():
        return True
    piece = processor.id_to_piece(token.id)
    is_control = processor.is_control(token.id)
    if piece != token.content and not (is_control and token.special):
        raise CheckpointError(
            f"{file.parent}: id {token.id} has two texts",
            got=f"the added token {token.content!a}",
            allowed=f"the piece {piece!a}",
            next_step="take the tokenizer's files from one checkpoint",
        )
    return not (is_control or processor.is_unknown(token.id) or processor.is_byte(token.id))


def _check_rows(file: Path, pieces: int, tokens: tuple[AddedToken, ...], vocab_size: int) -> None:
    """Refuses a tokenizer that does not account for the rows of the vocabulary."""
    named = sum(pieces <= token.id < vocab_size for token in tokens)
    if vocab_size - pieces - named > MAX_PADDING:
        raise CheckpointError(
            f"{file} is not the tokenizer of this model",
            got=f"{pieces} pieces and {named} added tokens",
            allowed=f"{vocab_size} together, or up to {MAX_PADDING} fewer for a padded vocabulary",
            next_step="take tokenizer.model and the files of added tokens from this checkpoint",
        )
