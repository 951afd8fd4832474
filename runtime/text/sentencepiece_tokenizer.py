"""A Tokenizer of a SentencePiece model and the tokens that were added to it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sentencepiece import SentencePieceProcessor

from runtime.errors import BundleError
from runtime.json_file import read_file
from runtime.text.added_tokens import AddedTokenFinder, AddedTokens
from runtime.text.alpaca2 import Alpaca2Template
from runtime.text.template import Template
from runtime.text.tokenizer import check_token_id, check_unicode, decoded

__all__ = ["SentencePieceTokenizer"]

SPACE_MARK = "\u2581"  # how SentencePiece writes a space inside a piece
# ModelProto.normalizer_spec.add_dummy_prefix = false; of a field that stands twice the last counts.
NO_SPACE_BEFORE = b"\x1a\x02\x18\x00"
NO_TOKENS = AddedTokens(tokens=())
ALPACA_2 = Alpaca2Template()


class SentencePieceTokenizer:
    """A Llama-style SentencePiece model: byte fallback, spaces kept as they are.

    A Tokenizer; see there for what its methods give.

    Args:
        path: the tokenizer.model file.
        added: what the model has besides.
        template: how its prompts are written.

    Raises:
        BundleError: the file is missing or not a SentencePiece model.
    """

    hf_class: Final = "LlamaTokenizer"

    def __init__(
        self, path: Path, added: AddedTokens = NO_TOKENS, template: Template = ALPACA_2
    ) -> None:
        self._path, self._data = path, read_file(path, BundleError)
        self._processor = _processor(path, self._data)
        self._adds_prefix: bool = self._processor.decode_pieces([SPACE_MARK]) == ""
        self._added = {token.id: token for token in added.tokens}
        self._finder = AddedTokenFinder(added.tokens)
        self._space_before_each = added.space_before_each
        pieces: int = self._processor.vocab_size()
        self.template: Final = template
        self.vocab_size: Final[int] = max(pieces, *(token_id + 1 for token_id in self._added), 0)
        self.num_pieces: Final[int] = pieces
        self.bos_token_id: Final[int] = _first_id(added.bos_token_id, self._processor.bos_id())
        self.eos_token_id: Final[int] = _first_id(added.eos_token_id, self._processor.eos_id())
        self.unk_token_id: Final[int] = self._processor.unk_id()

    @cached_property
    def control_tokens(self) -> Mapping[str, int]:
        ids = filter(self.is_control, range(self.vocab_size))
        return {name: token_id for token_id in ids if (name := self.name(token_id))}

    @cached_property
    def _unspaced(self) -> Any:
        """Encodes what goes on after another token, so that it begins without a space."""
        return _processor(self._path, self._data + NO_SPACE_BEFORE)

    def fewest_tokens(self, num_characters: int) -> int:
        """No piece is longer than the longest.

        Without byte pieces one token may stand for any number of unknown characters.
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
        token_ids = self.encode_parts([text])
        return [self.bos_token_id, *token_ids] if add_bos else token_ids

    def encode_parts(self, parts: Sequence[str | int]) -> list[int]:
        token_ids: list[int] = []
        for i, part in enumerate(self._split(parts)):
            if isinstance(part, int):
                token_ids.append(part)
            elif i == 0 or (self._space_before_each and not part.startswith(" ")):
                token_ids += self._processor.encode(part)
            else:
                token_ids += self._unspaced.encode(part)
        return token_ids

    def _split(self, parts: Sequence[str | int]) -> Iterator[str | int]:
        """The added tokens of texts, by their ids, and the texts between them."""
        for part in parts:
            if isinstance(part, int):
                yield part
                continue
            check_unicode(part)
            for each in self._finder.split(part):
                yield each if isinstance(each, str) else each.id

    def decode(self, token_ids: Iterable[int]) -> str:
        return decoded(self, token_ids)

    def is_control(self, token_id: int) -> bool:
        check_token_id(token_id, self.vocab_size)
        if token_id in self._added:
            return self._added[token_id].special
        return token_id >= self.num_pieces or bool(self._processor.is_control(token_id))

    def token_bytes(self, token_id: int, *, at_start: bool = False) -> bytes:
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
        """How the vocabulary writes a token, control tokens too: `</s>`."""
        check_token_id(token_id, self.vocab_size)
        if token_id in self._added:
            return self._added[token_id].content
        return str(self._processor.id_to_piece(token_id)) if token_id < self.num_pieces else ""


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
