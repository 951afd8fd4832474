"""Text to token ids and back, whole or one token at a time.

Takes a SentencePiece model and the tokens that were added to it; gives ids, text and the text that
a new token makes certain.
Must not know the model, the prompt template or stop strings.
"""

import codecs
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from sentencepiece import SentencePieceProcessor

from runtime.bundle.reader import ADDED_TOKENS, TOKENIZER, Bundle
from runtime.errors import BundleError, PromptError
from runtime.json_file import read_file
from runtime.record import first_problem
from runtime.text.added_tokens import AddedTokenFinder, AddedTokens

__all__ = ["StreamingDetokenizer", "Tokenizer", "open_tokenizer"]

SPACE_MARK = "\u2581"  # how SentencePiece writes a space inside a piece
# ModelProto.normalizer_spec.add_dummy_prefix = false; of a field that stands twice the last counts.
NO_SPACE_BEFORE = b"\x1a\x02\x18\x00"
NO_TOKENS = AddedTokens(tokens=())


class Tokenizer:
    """A Llama-style SentencePiece model: byte fallback, spaces kept as they are.

    Args:
        path: the tokenizer.model file.
        added: what the model has besides.

    Raises:
        BundleError: the file is missing or not a SentencePiece model.
    """

    def __init__(self, path: Path, added: AddedTokens = NO_TOKENS) -> None:
        data = read_file(path, BundleError)
        self._processor = _processor(path, data)
        self._adds_prefix: bool = self._processor.decode_pieces([SPACE_MARK]) == ""
        self._added = {token.id: token for token in added.tokens}
        self._finder = AddedTokenFinder(added.tokens)
        self._space_before_each = added.space_before_each
        # Only an added token can part a text, so that a piece of it begins without a space.
        self._unspaced = _processor(path, data + NO_SPACE_BEFORE) if added.tokens else None
        pieces: int = self._processor.vocab_size()
        self.vocab_size: Final[int] = max(pieces, *(token_id + 1 for token_id in self._added), 0)
        """Ids below it have a text, perhaps an empty one."""
        self.num_pieces: Final[int] = pieces
        self.bos_token_id: Final[int] = _first_id(added.bos_token_id, self._processor.bos_id())
        self.eos_token_id: Final[int] = _first_id(added.eos_token_id, self._processor.eos_id())
        self.unk_token_id: Final[int] = self._processor.unk_id()

    def fewest_tokens(self, num_characters: int) -> int:
        """A lower bound of the tokens of a text of this length, without making them.

        No piece is longer than the longest; without byte pieces one token may stand for any
        number of unknown characters.
        """
        ids = range(self.num_pieces)
        if not any(map(self._processor.is_byte, ids)):
            return 0
        pieces = (len(piece) for piece in self._processor.id_to_piece(list(ids)))
        added = (len(token.content) for token in self._added.values())
        return num_characters // max(*pieces, *added, 1)

    def encode(self, text: str, *, add_bos: bool = False) -> list[int]:
        """Token ids of a text; `<s>` or `</s>` in it are plain text, never control ids.

        Decoding them gives the text back, except that U+2581 in it becomes a space, and that an
        added token may take or bring a space.

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
        token_ids = self._encode(text)
        return [self.bos_token_id, *token_ids] if add_bos else token_ids

    def _encode(self, text: str) -> list[int]:
        token_ids: list[int] = []
        for i, part in enumerate(self._finder.split(text)):
            if not isinstance(part, str):
                token_ids.append(part.id)
            elif i == 0 or (self._space_before_each and not part.startswith(" ")):
                token_ids += self._processor.encode(part)
            else:
                assert self._unspaced is not None, "only an added token parts a text"
                token_ids += self._unspaced.encode(part)
        return token_ids

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text that streaming the ids gives, as one string.

        Raises:
            PromptError: an id is not in the vocabulary.
        """
        detokenizer = StreamingDetokenizer(self)
        segments = [detokenizer.add(token_id) for token_id in token_ids]
        return "".join(segments) + detokenizer.flush()

    def is_control(self, token_id: int) -> bool:
        """Whether the token is invisible, as BOS and EOS are."""
        self._check_id(token_id)
        if token_id in self._added:
            return self._added[token_id].special
        return token_id >= self.num_pieces or bool(self._processor.is_control(token_id))

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
        if token_id in self._added:
            return self._added[token_id].content.replace(SPACE_MARK, " ").encode()
        if token_id == self.unk_token_id:
            return str(self._processor.decode([token_id])).encode()  # its surface, not its name
        piece: str = self._processor.id_to_piece(token_id)
        if self._processor.is_byte(token_id):
            return bytes([int(piece[1:-1], 16)])  # "<0xE4>"
        if at_start and self._adds_prefix:
            piece = piece.removeprefix(SPACE_MARK)
        return piece.replace(SPACE_MARK, " ").encode()

    def name(self, token_id: int) -> str:
        """How the vocabulary writes a token, control tokens too: `</s>`.

        Raises:
            PromptError: the id is not in the vocabulary.
        """
        self._check_id(token_id)
        if token_id in self._added:
            return self._added[token_id].content
        return str(self._processor.id_to_piece(token_id)) if token_id < self.num_pieces else ""

    def _check_id(self, token_id: int) -> None:
        if not 0 <= token_id < self.vocab_size:
            raise PromptError(
                "a token id is not in the vocabulary",
                got=token_id,
                allowed=f"0 to {self.vocab_size - 1}",
                next_step="use ids from this bundle's own tokenizer",
            )


def open_tokenizer(bundle: Bundle) -> Tokenizer:
    """The tokenizer of a bundle, with its added tokens.

    Raises:
        BundleError: a file of it cannot be used.
    """
    file = bundle.file(ADDED_TOKENS)
    if ADDED_TOKENS not in bundle.manifest.files:
        return Tokenizer(bundle.file(TOKENIZER))
    try:
        added = AddedTokens.model_validate_json(read_file(file, BundleError))
    except ValidationError as error:
        raise BundleError(f"{file}: {first_problem(error)}") from error
    return Tokenizer(bundle.file(TOKENIZER), added)


def _processor(path: Path, data: bytes) -> Any:
    processor: Any = SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(data)
    except (RuntimeError, UnicodeDecodeError) as error:
        raise BundleError(
            f"the tokenizer {path} cannot be loaded",
            got=error,
            allowed="a SentencePiece model",
            next_step="make the bundle again",
        ) from error
    return processor


def _first_id(declared: int | None, own: int) -> int:
    return own if declared is None else declared


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
