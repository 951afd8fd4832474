"""Text to token ids and back, whole or one token at a time.

Takes a SentencePiece model file; gives ids, text and the text that a new token makes certain.
Must not know the model, the prompt template or stop strings.
"""

import codecs
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from sentencepiece import SentencePieceProcessor

from runtime.errors import BundleError, PromptError

__all__ = ["StreamingDetokenizer", "Tokenizer"]

SPACE_MARK = "\u2581"  # how SentencePiece writes a space inside a piece


class Tokenizer:
    """A Llama-style SentencePiece model: byte fallback, spaces kept as they are.

    Args:
        path: the tokenizer.model file.

    Raises:
        BundleError: the file is missing or not a SentencePiece model.
    """

    def __init__(self, path: Path) -> None:
        try:
            processor: Any = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise BundleError(
                f"the tokenizer {path} cannot be loaded",
                got=error,
                allowed="a SentencePiece model",
                next_step="make the bundle again",
            ) from error
        self._processor = processor
        self._adds_prefix: bool = processor.decode_pieces([SPACE_MARK]) == ""
        self.vocab_size: Final[int] = processor.vocab_size()
        self.bos_token_id: Final[int] = processor.bos_id()
        self.eos_token_id: Final[int] = processor.eos_id()
        self.unk_token_id: Final[int] = processor.unk_id()

    def encode(self, text: str, *, add_bos: bool = False) -> list[int]:
        """Token ids of a text; `<s>` or `</s>` in it are plain text, never control ids.

        Decoding them gives the text back, except that U+2581 in it becomes a space.

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
        token_ids: list[int] = self._processor.encode(text)
        return [self.bos_token_id, *token_ids] if add_bos else token_ids

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text that streaming the ids gives, as one string.

        Raises:
            PromptError: an id is not in the vocabulary.
        """
        detokenizer = StreamingDetokenizer(self)
        segments = [detokenizer.add(token_id) for token_id in token_ids]
        return "".join(segments) + detokenizer.flush()

    def is_control(self, token_id: int) -> bool:
        """Whether the piece is invisible, as BOS and EOS are."""
        self._check_id(token_id)
        return bool(self._processor.is_control(token_id))

    def token_bytes(self, token_id: int, *, at_start: bool = False) -> bytes:
        """UTF-8 of one token, perhaps only a part of a character; b"" for a control piece.

        Args:
            token_id: the token.
            at_start: the token opens a text, so the space that encoding put there is dropped.

        Raises:
            PromptError: the id is not in the vocabulary.
        """
        if self.is_control(token_id):
            return b""
        if token_id == self.unk_token_id:
            return str(self._processor.decode([token_id])).encode()  # its surface, not its name
        piece: str = self._processor.id_to_piece(token_id)
        if self._processor.is_byte(token_id):
            return bytes([int(piece[1:-1], 16)])  # "<0xE4>"
        if at_start and self._adds_prefix:
            piece = piece.removeprefix(SPACE_MARK)
        return piece.replace(SPACE_MARK, " ").encode()

    def _check_id(self, token_id: int) -> None:
        if not 0 <= token_id < self.vocab_size:
            raise PromptError(
                "a token id is not in the vocabulary",
                got=token_id,
                allowed=f"0 to {self.vocab_size - 1}",
                next_step="use ids from this bundle's own tokenizer",
            )


class StreamingDetokenizer:
    """Gives each character once its last byte has arrived; what was given is never revised.

    Equals SentencePiece's decode wherever the bytes are valid UTF-8. An invalid run becomes U+FFFD
    by Python's "replace" rule, where SentencePiece may write more of them. As in SentencePiece,
    a control piece ends a run of bytes and does not count as the start of the text.
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
