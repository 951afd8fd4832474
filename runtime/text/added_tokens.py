"""Tokens that a model's makers added to its vocabulary, and where a text has them.

A bundle keeps them in added_tokens.json, which is there only where there are any. Matching follows
Hugging Face's tokenizers (AddedVocabulary), with special tokens left to be text as
split_special_tokens does: what a user types is never a control token.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field

from runtime.record import Record

__all__ = ["AddedToken", "AddedTokenFinder", "AddedTokens"]

TokenId = Annotated[int, Field(ge=0, le=10_000_000)]


class AddedToken(Record):
    """One token; the fields are those of tokenizers.AddedToken, and its id.

    special: invisible, as BOS and EOS are, and never made from text.
    single_word: only where no letter or digit is next to it.
    lstrip, rstrip: takes the white space before or after it.
    normalized: looked for after those that are not.
    """

    id: TokenId
    content: str = Field(min_length=1, max_length=10_000)
    special: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True


class AddedTokens(Record):
    """What the tokenizer of a model has besides tokenizer.model or tokenizer.json.

    space_before_each: whether the text after an added token gets the space that encoding puts
        before a text, as the whole text does (`legacy` of Hugging Face's tokenizers).
    bos_token_id, eos_token_id: where they are other than the SentencePiece model's. Beside a
        tokenizer.json, which names neither, EOS is always here, and BOS where the model has one.
    unk_token_id: of a tokenizer.json that has one.
    adds_bos: whether BOS, where there is one, stands before a plain text.
    """

    tokens: tuple[AddedToken, ...] = Field(max_length=100_000)
    space_before_each: bool = False
    bos_token_id: TokenId | None = None
    eos_token_id: TokenId | None = None
    unk_token_id: TokenId | None = None
    adds_bos: bool = True


class AddedTokenFinder:
    """Finds added tokens in texts."""

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        groups = [[each for each in tokens if each.normalized == flag] for flag in (False, True)]
        self._groups = [_Group(group) for group in groups if group]

    def split(self, text: str) -> list[str | AddedToken]:
        """The added tokens of a text and the texts between them, none of which is empty."""
        parts: list[str | AddedToken] = [text] if text else []
        for group in self._groups:
            parts = [
                piece
                for part in parts
                for piece in (group.split(part) if isinstance(part, str) else [part])
            ]
        return parts


class _Group:
    """Tokens that are looked for together: at each place the longest that stands there counts."""

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        self._by_content = {token.content: token for token in tokens}
        longest_first = sorted(self._by_content, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def split(self, text: str) -> Iterator[str | AddedToken]:
        end = 0  # of what was given
        for match in self._pattern.finditer(text):
            token = self._by_content[match[0]]
            if token.special or (token.single_word and _touches_word(text, match)):
                continue
            before = text[end : match.start()]
            if token.lstrip:
                before = before.rstrip()
            if before:
                yield before
            yield token
            end = match.end()
            while token.rstrip and text[end : end + 1].isspace():
                end += 1
        if end < len(text):
            yield text[end:]


def _touches_word(text: str, match: re.Match[str]) -> bool:
    neighbours = (
        text[max(0, match.start() - 1) : match.start()] + text[match.end() : match.end() + 1]
    )
    return re.search(r"\w", neighbours) is not None
