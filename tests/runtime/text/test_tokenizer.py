"""Claims about runtime.tokenizer, on tiny models trained here and on the real one if present."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from runtime.errors import BundleError, PromptError
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.tokenizer import StreamingDetokenizer
from tests.paths import SHARED
from tests.tokenizers import train_tokenizer

REAL_MODEL = SHARED / "tokenizer/tokenizer.model"
LINES = [
    "你好,世界。今天天气很好,我们去公园散步。",
    "The quick brown fox jumps over the lazy dog.",
    "请用中文回答: what is the capital of France?",
]
SPACE_MARK = "\u2581"  # what SentencePiece takes for a space
AWKWARD = [*"你界。龘𠮷é \n\t\0", "    ", "👩‍👩‍👧‍👦", "🤷🏽‍♀️", "🇨🇳", "é", "<0x41>", "</s>"]
RANDOM = st.text(st.characters(codec="utf-8", exclude_characters=SPACE_MARK))
UNICODE = st.lists(st.sampled_from(AWKWARD) | RANDOM, max_size=8).map("".join)

claims = settings(max_examples=200)


@pytest.fixture(scope="module", params=["tiny", "no_prefix", "real"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param != "real":
        add_dummy_prefix = request.param == "tiny"
        folder = tmp_path_factory.mktemp("model")
        return train_tokenizer(folder, LINES, 400, add_dummy_prefix=add_dummy_prefix)
    if not REAL_MODEL.exists():
        pytest.skip(f"the real tokenizer is not at {REAL_MODEL}")
    return REAL_MODEL


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(model)


@pytest.fixture(scope="module")
def reference(model: Path) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(model))


def stream(tokenizer: SentencePieceTokenizer, token_ids: list[int]) -> list[str]:
    detokenizer = StreamingDetokenizer(tokenizer)
    return [detokenizer.add(token_id) for token_id in token_ids] + [detokenizer.flush()]


def byte_ids(reference: SentencePieceProcessor, raw: bytes) -> list[int]:
    return [reference.piece_to_id(f"<0x{byte:02X}>") for byte in raw]


@given(text=UNICODE)
@claims
def test_any_text_round_trips_and_streams_as_sentencepiece_decodes_it(
    tokenizer: SentencePieceTokenizer, reference: SentencePieceProcessor, text: str
) -> None:
    token_ids = tokenizer.encode(text)
    assert token_ids == reference.encode(text)
    assert "".join(stream(tokenizer, token_ids)) == reference.decode(token_ids) == text


@given(text=UNICODE.filter(lambda text: "\ufffd" not in text))
@claims
def test_valid_text_never_shows_a_replacement_character(
    tokenizer: SentencePieceTokenizer, text: str
) -> None:
    assert all("\ufffd" not in segment for segment in stream(tokenizer, tokenizer.encode(text)))


@given(text=UNICODE)
@claims
def test_each_character_comes_with_its_last_byte_and_is_final(
    tokenizer: SentencePieceTokenizer, text: str
) -> None:
    token_ids = tokenizer.encode(text)
    segments = stream(tokenizer, token_ids)
    arrived = b""
    for end, token_id in enumerate(token_ids, start=1):
        arrived += tokenizer.token_bytes(token_id)
        shown = "".join(segments[:end])
        assert text.startswith(shown)
        # the model may have put a space before the text
        assert arrived.decode(errors="ignore") in (shown, " " + shown)


@given(data=st.data())
@claims
def test_any_ids_stream_to_what_decode_gives(
    tokenizer: SentencePieceTokenizer, reference: SentencePieceProcessor, data: st.DataObject
) -> None:
    special = st.integers(0, 3 + 255)  # unk, control and byte pieces
    token_ids = data.draw(st.lists(special | st.integers(0, tokenizer.vocab_size - 1)))
    text = tokenizer.decode(token_ids)
    assert "".join(stream(tokenizer, token_ids)) == text
    if "\ufffd" not in text:
        assert text == reference.decode(token_ids)
    else:  # the two may differ in how many, nothing else
        assert text.replace("\ufffd", "") == reference.decode(token_ids).replace("\ufffd", "")


@pytest.mark.parametrize("before", ["", "B", "BB", "S", "BSB", "SS", "U", "E", "x", "xEB"])
def test_a_leading_space_is_dropped_as_sentencepiece_drops_it(
    tokenizer: SentencePieceTokenizer, reference: SentencePieceProcessor, before: str
) -> None:
    named = {
        "B": tokenizer.bos_token_id,
        "E": tokenizer.eos_token_id,
        "U": tokenizer.unk_token_id,
        "S": reference.piece_to_id(SPACE_MARK),
        "x": reference.piece_to_id("<0x20>"),
    }
    token_ids = [named[name] for name in before] + tokenizer.encode("fox")
    assert tokenizer.decode(token_ids) == reference.decode(token_ids)


def test_a_typed_space_mark_becomes_a_space(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(f"a{SPACE_MARK}b")) == "a b"


def test_a_control_piece_ends_a_run_of_bytes(
    tokenizer: SentencePieceTokenizer, reference: SentencePieceProcessor
) -> None:
    first, *rest = byte_ids(reference, "你".encode())
    assert tokenizer.decode([first, *rest]) == "你"
    assert tokenizer.decode([first, tokenizer.eos_token_id, *rest]) == "\ufffd" * 3


def test_an_incomplete_character_is_held_back_until_the_flush(
    tokenizer: SentencePieceTokenizer, reference: SentencePieceProcessor
) -> None:
    assert stream(tokenizer, byte_ids(reference, "🤷".encode()[:3])) == ["", "", "", "\ufffd"]


def test_token_bytes_show_each_kind_of_piece(
    tokenizer: SentencePieceTokenizer, reference: SentencePieceProcessor
) -> None:
    assert tokenizer.token_bytes(reference.piece_to_id("<0xE4>")) == b"\xe4"
    assert tokenizer.token_bytes(reference.piece_to_id(SPACE_MARK + "the")) == b" the"
    assert tokenizer.token_bytes(tokenizer.bos_token_id) == b""
    assert tokenizer.token_bytes(tokenizer.unk_token_id) == " \u2047 ".encode()


@pytest.mark.parametrize("text", ["<s>", "</s>", "<unk>", "a<s>b</s>", "[INST] [/INST]"])
def test_control_pieces_typed_by_a_user_stay_text(
    tokenizer: SentencePieceTokenizer, text: str
) -> None:
    token_ids = tokenizer.encode(text)
    assert not any(map(tokenizer.is_control, token_ids))
    assert tokenizer.unk_token_id not in token_ids
    assert tokenizer.decode(token_ids) == text


def test_bos_is_added_only_when_asked_for(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.encode("fox", add_bos=True) == [1, *tokenizer.encode("fox")]
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


@pytest.mark.parametrize("text", ["\ud800", "hello \udfff", "\udc80\ud800"])
def test_a_lone_surrogate_is_a_one_line_error(tokenizer: SentencePieceTokenizer, text: str) -> None:
    with pytest.raises(PromptError, match=r"^[^\n]*lone surrogate '\\ud[0-9a-f]{3}' at[^\n]*$"):
        tokenizer.encode(text)


@pytest.mark.parametrize("token_id", [-1, 10**6, 2**40])
def test_an_id_outside_the_vocabulary_is_a_one_line_error(
    tokenizer: SentencePieceTokenizer, token_id: int
) -> None:
    allowed = f"^[^\n]*got {token_id}; allowed: 0 to {tokenizer.vocab_size - 1};[^\n]*$"
    with pytest.raises(PromptError, match=allowed):
        tokenizer.token_bytes(token_id)
    with pytest.raises(PromptError, match=allowed):
        tokenizer.decode([0, token_id])


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\n\x0e\n\x05<unk>"])
def test_a_missing_or_garbage_model_is_a_one_line_error(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "tokenizer.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"^[^\n]*tokenizer\.model (cannot|is missing)[^\n]*$"):
        SentencePieceTokenizer(path)
