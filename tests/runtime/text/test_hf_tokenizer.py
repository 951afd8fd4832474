"""Claims about tokenizer.json: the ids and texts of the library, and none that it takes back."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import BundleError, PromptError
from runtime.text.added_tokens import AddedTokens
from runtime.text.no_template import NoTemplate
from runtime.text.tokenizer import StreamingDetokenizer, Tokenizer

pytest.importorskip("tokenizers", reason="the extra hf is not installed")

if TYPE_CHECKING:
    import tokenizers

AWKWARD = [
    *"你界。龘𠮷é \n\t\0",
    "    ",
    "👩‍👩‍👧‍👦",
    "🤷🏽‍♀️",
    "e\u0301",
    "<0x41>",
    "</s>",
    "<|im_end|>",
    "<think>",
    "<|im_",
]
RANDOM = st.text(st.characters(codec="utf-8", exclude_characters="\u2581"))
UNICODE = st.lists(st.sampled_from(AWKWARD) | RANDOM, max_size=8).map("".join)
NAMELESS = UNICODE.filter(lambda text: "<" not in text)
claims = settings(max_examples=150)


@pytest.fixture(scope="module", params=["byte_level", "byte_fallback"])
def library(request: pytest.FixtureRequest) -> "tokenizers.Tokenizer":
    """The library itself, which leaves the names of control tokens in a text."""
    from tests.hf_tokenizers import MAKERS

    made = MAKERS[request.param]()
    made.encode_special_tokens = True
    return made


@pytest.fixture(scope="module")
def tokenizer(
    library: "tokenizers.Tokenizer", tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    return opened(library, tmp_path_factory.mktemp("tokenizer"))


def opened(library: "tokenizers.Tokenizer", folder: Path, bos: str | None = None) -> Tokenizer:
    from runtime.text.hf_tokenizer import HfTokenizer
    from tests.hf_tokenizers import added_of, save

    return HfTokenizer(save(library, folder), added_of(library, bos=bos), NoTemplate())


def stream(tokenizer: Tokenizer, token_ids: list[int]) -> list[str]:
    detokenizer = StreamingDetokenizer(tokenizer)
    return [detokenizer.add(token_id) for token_id in token_ids] + [detokenizer.flush()]


@given(text=UNICODE)
@claims
def test_ids_are_the_library_s(
    tokenizer: Tokenizer, library: "tokenizers.Tokenizer", text: str
) -> None:
    assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids


@given(text=UNICODE)
@claims
def test_a_stream_is_the_library_s_text_and_nothing_of_it_is_taken_back(
    tokenizer: Tokenizer, library: "tokenizers.Tokenizer", text: str
) -> None:
    token_ids = tokenizer.encode(text)
    pieces = stream(tokenizer, token_ids)
    assert "".join(pieces) == library.decode(token_ids, skip_special_tokens=False)
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text


@given(st.lists(st.integers(0, 300), max_size=12))
@claims
def test_any_ids_decode_as_the_library_decodes_them(
    tokenizer: Tokenizer, library: "tokenizers.Tokenizer", token_ids: list[int]
) -> None:
    """But for how many U+FFFD stand for bytes that are no text."""
    shown = [each for each in token_ids if not tokenizer.is_control(each)]
    theirs = library.decode(shown)
    if "\ufffd" not in theirs:
        assert "".join(stream(tokenizer, shown)) == theirs


def test_characters_of_several_tokens_come_whole(tokenizer: Tokenizer) -> None:
    token_ids = tokenizer.encode("🐉龘")
    assert len(token_ids) > 4
    pieces = [piece for piece in stream(tokenizer, token_ids) if piece.strip()]
    assert pieces == ["🐉", "龘"]


def test_a_stream_that_ends_within_a_character_says_so_last(tokenizer: Tokenizer) -> None:
    assert stream(tokenizer, tokenizer.encode("a🐉")[:-1])[-1] == "\ufffd"


@pytest.mark.parametrize("name", ["<|im_end|>", "<|im_start|>", "<|begin|>"])
def test_the_name_of_a_control_token_is_text(tokenizer: Tokenizer, name: str) -> None:
    token_ids = tokenizer.encode(f"a{name}b")
    assert not set(token_ids) & set(tokenizer.control_tokens.values())
    assert tokenizer.decode(token_ids) == f"a{name}b"


def test_an_added_token_that_is_shown_is_a_token_of_any_text(tokenizer: Tokenizer) -> None:
    token_ids = tokenizer.encode("a<think>b")
    assert [tokenizer.name(each) for each in token_ids].count("<think>") == 1
    assert tokenizer.decode(token_ids) in ("a<think>b", "a<think> b")


@given(parts=st.lists(st.sampled_from(["<|im_end|>", "<|im_start|>"]) | NAMELESS, max_size=6))
@claims
def test_control_tokens_among_texts_are_encoded_as_the_library_reads_their_names(
    tokenizer: Tokenizer, library: "tokenizers.Tokenizer", parts: list[str]
) -> None:
    library.encode_special_tokens = False
    expected = library.encode("".join(parts), add_special_tokens=False).ids
    library.encode_special_tokens = True
    ids = tokenizer.control_tokens
    assert tokenizer.encode_parts([ids.get(part, part) for part in parts]) == expected


def test_the_name_of_a_control_token_beside_a_real_one_stays_text(tokenizer: Tokenizer) -> None:
    end = tokenizer.control_tokens["<|im_end|>"]
    token_ids = tokenizer.encode_parts(["a<|im_end|>", end, "<|im_end|>"])
    assert token_ids.count(end) == 1
    assert tokenizer.decode(token_ids) in ("a<|im_end|><|im_end|>", "a<|im_end|> <|im_end|>")


def test_bos_stands_before_a_text_where_the_model_has_one(
    library: "tokenizers.Tokenizer", tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with_bos = opened(library, tmp_path, bos="<|begin|>")
    assert with_bos.encode("a", add_bos=True) == [with_bos.bos_token_id, *with_bos.encode("a")]
    assert tokenizer.bos_token_id is None
    assert tokenizer.encode("a", add_bos=True) == tokenizer.encode("a")


@given(text=UNICODE.filter(lambda text: len(text) > 20))
@claims
def test_no_text_has_fewer_tokens_than_the_bound(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.fewest_tokens(len(text)) <= len(tokenizer.encode(text))
    assert tokenizer.fewest_tokens(10**6) > 10**3


def test_a_lone_surrogate_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="lone surrogate"):
        tokenizer.encode("a\ud800")


def test_an_id_beyond_the_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="not in the vocabulary"):
        tokenizer.decode([tokenizer.vocab_size])


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, data: bytes) -> None:
    from runtime.text.hf_tokenizer import HfTokenizer

    file = tmp_path / "tokenizer.json"
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be loaded"):
        HfTokenizer(file, AddedTokens(tokens=(), eos_token_id=0), NoTemplate())
