"""A Tokenizer of tokenizer.json, by Hugging Face's library tokenizers; imported here alone.

Two kinds of byte-pair encoding are known: over bytes, whose pieces spell each byte as a character
(GPT-2's), and over characters with a byte fallback, whose pieces mark spaces as SentencePiece's do.
"""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from tokenizers import AddedToken as LibraryToken
from tokenizers import Tokenizer as LibraryTokenizer

from runtime.errors import BundleError
from runtime.json_file import read_file
from runtime.text.added_tokens import AddedToken, AddedTokens
from runtime.text.template import Template
from runtime.text.tokenizer import check_token_id, check_unicode, decoded

__all__ = ["HfTokenizer"]

SPACE_MARK = "\u2581"
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# What a normalizer or a splitting must leave as it is for a bound on the number of tokens.
KEPT = "  A\u00e9 \u200b\u0001\t\r\nz\uff21 "
MOST_COMPOSED = 4  # characters that NFC makes one


class HfTokenizer:
    """A Tokenizer; see there for what its methods give.

    The library would read the names of control tokens in any text. Here they are text, and a
    control token that a template wrote is handed to it under a name that nobody can guess.

    Args:
        path: the tokenizer.json file.
        added: every token that its makers added, and the roles.
        template: how its prompts are written.

    Raises:
        BundleError: the file is missing or cannot be loaded.
    """

    hf_class: Final = "PreTrainedTokenizerFast"

    def __init__(self, path: Path, added: AddedTokens, template: Template) -> None:
        assert added.eos_token_id is not None, "export writes it"
        self.template: Final = template
        self.bos_token_id: Final = added.bos_token_id
        self.eos_token_id: Final = added.eos_token_id
        self.unk_token_id: Final = added.unk_token_id
        self._library = _load(path)
        self._adds_bos = added.adds_bos
        self._added = {token.id: token for token in added.tokens}
        _add(self._library, added.tokens)
        ids = self._library.get_vocab(with_added_tokens=True).values()
        self.vocab_size: Final = max(ids, default=-1) + 1
        decoder = self._library.decoder
        self._over_bytes = decoder is not None and decoder.decode(["\u0120"]) == " "
        self._drops_space = decoder is not None and decoder.decode([f"{SPACE_MARK}a"]) == "a"
        self._secret = secrets.token_hex(16)
        self._ids = self._name_control_tokens()

    def _name_control_tokens(self) -> dict[int, int]:
        """Gives control tokens their secret names; returns the library's ids of these and ours."""
        self._library.encode_special_tokens = True  # as text
        secret = {"special": False, "single_word": False, "normalized": False}
        control = [token for token in self._added.values() if token.special]
        names = [self._secret_name(token) for token in control]
        _add(
            self._library,
            [
                token.model_copy(update={**secret, "content": name})
                for token, name in zip(control, names, strict=True)
            ],
        )
        vocab = self._library.get_vocab(with_added_tokens=True)
        return {vocab[name]: token.id for name, token in zip(names, control, strict=True)}

    def _secret_name(self, token: AddedToken) -> str:
        return f"{self._secret}{token.content}"

    @cached_property
    def control_tokens(self) -> Mapping[str, int]:
        return {token.content: token.id for token in self._added.values() if token.special}

    @cached_property
    def _most_characters(self) -> int:
        """That one token can stand for; 0 where there is no telling."""
        kept = self._library.encode(KEPT, add_special_tokens=False).ids
        if self.decode(kept) != KEPT:
            return 0
        pieces = self._library.get_vocab(with_added_tokens=False)
        names = (*pieces, *(token.content for token in self._added.values()))
        return MOST_COMPOSED * max(map(len, names))

    def fewest_tokens(self, num_characters: int) -> int:
        return num_characters // self._most_characters if self._most_characters else 0

    def encode(self, text: str, *, add_bos: bool = False) -> list[int]:
        """The ids of the library with split_special_tokens, and BOS where the model has one."""
        check_unicode(text)
        token_ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        if add_bos and self._adds_bos and self.bos_token_id is not None:
            return [self.bos_token_id, *token_ids]
        return token_ids

    def encode_parts(self, parts: Sequence[str | int]) -> list[int]:
        text = "".join(
            each if isinstance(each, str) else self._secret_name(self._added[each])
            for each in parts
        )
        return [self._ids.get(each, each) for each in self.encode(text)]

    def decode(self, token_ids: Iterable[int]) -> str:
        return decoded(self, token_ids)

    def is_control(self, token_id: int) -> bool:
        check_token_id(token_id, self.vocab_size)
        if token_id in self._added:
            return self._added[token_id].special
        return self._library.id_to_token(token_id) is None

    def token_bytes(self, token_id: int, *, at_start: bool = False) -> bytes:
        if self.is_control(token_id):
            return b""
        piece = self.name(token_id)
        if self._over_bytes:
            return _bytes_of(piece)
        byte = BYTE_PIECE.fullmatch(piece)
        data = bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE_MARK, " ").encode()
        return data.removeprefix(b" ") if at_start and self._drops_space else data

    def name(self, token_id: int) -> str:
        check_token_id(token_id, self.vocab_size)
        if token_id in self._added:
            return self._added[token_id].content
        return self._library.id_to_token(token_id) or ""


def _load(path: Path) -> LibraryTokenizer:
    try:
        library = LibraryTokenizer.from_buffer(read_file(path, BundleError))
    except ValueError as error:
        raise BundleError(
            f"the tokenizer {path} cannot be loaded",
            got=error,
            allowed="a tokenizer.json of Hugging Face's tokenizers",
            next_step="make the bundle again, or install a newer tokenizers",
        ) from error
    library.no_truncation()
    library.no_padding()
    return library


def _add(library: LibraryTokenizer, tokens: Sequence[AddedToken]) -> None:
    """Adds tokens; of those that are there already, marks the special ones as such."""
    library.add_tokens(
        [
            LibraryToken(token.content, **token.model_dump(exclude={"id", "content"}))
            for token in tokens
        ]
    )


def _byte_characters() -> dict[str, int]:
    """The character that stands for each byte in pieces over bytes: GPT-2's bytes_to_unicode.

    Bytes that are visible in Latin-1 stand for themselves, the others for what follows U+00FF.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in visible]
    table = {chr(byte): byte for byte in visible}
    return table | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTES = _byte_characters()


def _bytes_of(piece: str) -> bytes:
    """The bytes that a piece spells; an added token with other characters is what it says."""
    try:
        return bytes([BYTES[character] for character in piece])
    except KeyError:
        return piece.encode()
