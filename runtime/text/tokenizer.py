"""The seam of tokenizers: text to token ids and back, whole or one token at a time.

Must not know the model, how prompts are written or stop strings.
"""

import codecs
from collections.abc import Iterable
from typing import Protocol

from runtime.errors import PromptError
from runtime.text.template import Encoder

__all__ = ["StreamingDetokenizer", "Tokenizer", "check_token_id", "check_unicode", "decoded"]


class Tokenizer(Encoder, Protocol):
    """A vocabulary, and how texts become ids of it. Ids below `vocab_size` have a text."""

    @property
    def vocab_size(self) -> int:
        """One more than the highest id; the text of an id below it may be empty."""

    @property
    def unk_token_id(self) -> int | None:
        """The token of what has no other; None where every text has one."""

    @property
    def hf_class(self) -> str:
        """The class that Hugging Face's transformers has for such a tokenizer."""

    def fewest_tokens(self, num_characters: int) -> int:
        """A lower bound of the tokens of a text of this length, without making them."""

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text that streaming the ids gives, as one string.

        Raises:
            PromptError: an id is not in the vocabulary.
        """

    def is_control(self, token_id: int) -> bool:
        """Whether the token is invisible, as BOS and EOS are.

        Raises:
            PromptError: the id is not in the vocabulary.
        """

    def token_bytes(self, token_id: int, *, at_start: bool = False) -> bytes:
        """UTF-8 of one token, perhaps only a part of a character; b"" for a control token.

        Args:
            token_id: the token.
            at_start: the token opens a text, so the space that encoding put there is dropped.

        Raises:
            PromptError: the id is not in the vocabulary.
        """


class StreamingDetokenizer:
    """Gives each character once its last byte has arrived; what was given is never revised.

    Equals the decoding of SentencePiece and of tokenizers wherever the bytes are valid UTF-8. An
    invalid run becomes U+FFFD by Python's "replace" rule, where they may write more of them. As in
    SentencePiece, a control token ends a run of bytes and does not count as the start of the text.
    """

    def __init__(self, tokenizer: Tokenizer, *, at_start: bool = True) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = at_start  # False: the text goes on where another ended

    def add(self, token_id: int) -> str:
        """The text that this token makes certain, often "" inside a character.

        Raises:
            PromptError: the id is not in the vocabulary.
        """
        is_control = self._tokenizer.is_control(token_id)
        piece = self._tokenizer.token_bytes(token_id, at_start=self._at_start)
        self._at_start = self._at_start and is_control
        return self._decoder.decode(piece, final=is_control)

    def flush(self) -> str:
        """The rest, after the last token: a U+FFFD if a character was left incomplete."""
        return self._decoder.decode(b"", final=True)


def decoded(tokenizer: Tokenizer, token_ids: Iterable[int]) -> str:
    """The text that streaming the ids gives; see Tokenizer.decode."""
    detokenizer = StreamingDetokenizer(tokenizer)
    segments = [detokenizer.add(token_id) for token_id in token_ids]
    return "".join(segments) + detokenizer.flush()


def check_unicode(text: str) -> None:
    """Refuses a text that UTF-8 cannot encode.

    Raises:
        PromptError: the text has a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            "the text is not valid Unicode",
            got=f"lone surrogate {text[error.start]!a} at character {error.start}",
            allowed="characters that UTF-8 can encode",
            next_step="remove it or mend the program that wrote it",
        ) from error


def check_token_id(token_id: int, vocab_size: int) -> None:
    """Refuses an id that no token has.

    Raises:
        PromptError: the id is not in the vocabulary.
    """
    if not 0 <= token_id < vocab_size:
        raise PromptError(
            "a token id is not in the vocabulary",
            got=token_id,
            allowed=f"0 to {vocab_size - 1}",
            next_step="use ids from this bundle's own tokenizer",
        )
