"""The tokens of a model as llguidance knows them: the bytes of each.

Takes a Tokenizer; what a token shows at the start of an answer is the tokenizer's to say.
"""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from runtime.text.tokenizer import Tokenizer

__all__ = ["Bits", "Vocabulary"]

Bits = NDArray[np.uint8]  # one bit an id, the lowest bit first, as llguidance packs them

NO_TEXT = b""  # such a token is in no grammar


class Vocabulary:
    """The tokens of one model.

    Two ids of our own follow the tokenizer's: `space`, a space, and `end`, after which no text
    comes.

    Args:
        tokenizer: the model's.
        vocab_size: ids that the model has; those beyond the tokenizer's have no text.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        texts = [_text(tokenizer, token_id) for token_id in range(tokenizer.vocab_size)]
        self.size = vocab_size
        self.eos_token_id = tokenizer.eos_token_id
        self.space, self.end = len(texts), len(texts) + 1
        self.tokens = LLTokenizer(TokenizerWrapper(_Tokens([*texts, b" ", b"end"], self.end)))
        # Masks are of whole words; how many is for llguidance to say.
        self._mask_bytes = len(LLMatcher(self.tokens, 'start: "a"').compute_bitmask())
        self._has_text = np.array([bool(text) for text in texts])
        self._drops_space = np.array(
            [
                text.startswith(b" ") and tokenizer.token_bytes(token_id, at_start=True) != text
                for token_id, text in enumerate(texts)
            ]
        )
        self.with_text = self._pack(self._has_text)
        """The ids that stand for a text, without our own."""
        self.dropping_space = self._pack(self._drops_space)
        """The ids whose space is not shown where they open an answer."""

    def has_text(self, token_id: int) -> bool:
        """Whether a token stands for a text."""
        return token_id < self._has_text.size and bool(self._has_text[token_id])

    def drops_space(self, token_id: int) -> bool:
        """Whether a token's space is not shown where it opens an answer."""
        return token_id < self._drops_space.size and bool(self._drops_space[token_id])

    def _pack(self, flags: NDArray[np.bool_]) -> Bits:
        bits = np.zeros(self._mask_bytes, np.uint8)
        packed = np.packbits(flags, bitorder="little")
        bits[: packed.size] = packed
        return bits


def _text(tokenizer: Tokenizer, token_id: int) -> bytes:
    """The bytes of a token; none for one that no answer should have."""
    if token_id == tokenizer.unk_token_id:
        return NO_TEXT
    return tokenizer.token_bytes(token_id)  # of a control token: none


@dataclass(frozen=True)
class _Tokens:
    """What TokenizerWrapper reads."""

    tokens: list[bytes]
    eos_token_id: int
    bos_token_id: None = None

    @property
    def special_token_ids(self) -> list[int]:
        """Without one, a grammar that names a special token would be a panic of llguidance."""
        return [self.eos_token_id]

    def __call__(self, text: str | bytes) -> NoReturn:
        raise AssertionError("tokens are forced nowhere, so no text is made tokens")
