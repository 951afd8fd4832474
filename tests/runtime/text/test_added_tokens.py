"""Claims about added tokens in texts; tests/export compares the same with transformers."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.bundle.manifest import FileEntry
from runtime.bundle.reader import ADDED_TOKENS, TOKENIZER, Bundle
from runtime.errors import BundleError
from runtime.text.added_tokens import AddedToken, AddedTokenFinder, AddedTokens
from runtime.text.from_bundle import open_tokenizer
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.tokenizer import StreamingDetokenizer, Tokenizer
from tests.models import bare_manifest

DESK = AddedToken(id=640, content="【客服】")
SPECIAL = AddedToken(id=641, content="<|end|>", special=True)
SPACED = AddedToken(id=642, content="cat", lstrip=True, rstrip=True)
WORD = AddedToken(id=643, content="dog", single_word=True)
LONGER = AddedToken(id=644, content="【客服】!")
LATER = AddedToken(id=645, content="<|end", normalized=True)
EARLIER = AddedToken(id=646, content="end|>x", normalized=False)


def split(text: str, *tokens: AddedToken) -> list[str | int]:
    parts = AddedTokenFinder(tokens).split(text)
    return [part if isinstance(part, str) else part.id for part in parts]


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("", (DESK,), []),
        ("plain", (DESK,), ["plain"]),
        ("a【客服】b", (DESK,), ["a", 640, "b"]),
        ("【客服】【客服】", (DESK,), [640, 640]),
        ("【客服】!", (DESK, LONGER), [644]),
        ("【客服】 !", (DESK, LONGER), [640, " !"]),
        ("a  cat \n b", (SPACED,), ["a", 642, "b"]),
        ("  cat", (SPACED,), [642]),
        ("cat  cat", (SPACED,), [642, 642]),
        ("dog dogs a-dog 狗dog dog", (WORD,), [643, " dogs a-", 643, " 狗dog ", 643]),
        ("a<|end|>b", (SPECIAL,), ["a<|end|>b"]),
        ("a<|end|>b", (SPECIAL, LATER), ["a<|end|>b"]),
        ("<|end|>x", (LATER, EARLIER), ["<|", 646]),
        ("a.c", (AddedToken(id=650, content="."),), ["a", 650, "c"]),
    ],
)
def test_a_text_is_cut_where_its_added_tokens_are(
    text: str, tokens: tuple[AddedToken, ...], expected: list[str | int]
) -> None:
    assert split(text, *tokens) == expected


@given(
    text=st.text("ab <|>"),
    contents=st.lists(st.text("ab <|>", min_size=1, max_size=3), max_size=4, unique=True),
)
@settings(max_examples=300)
def test_nothing_of_a_text_is_lost(text: str, contents: list[str]) -> None:
    tokens = [AddedToken(id=640 + i, content=content) for i, content in enumerate(contents)]
    parts = AddedTokenFinder(tokens).split(text)
    assert "".join(part if isinstance(part, str) else part.content for part in parts) == text
    for part in parts:
        assert part != ""
        assert not (isinstance(part, str) and any(content in part for content in contents))


@pytest.fixture(scope="module")
def model(bundles: Path) -> Path:
    return bundles / "talk-int4" / TOKENIZER


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(model, AddedTokens(tokens=(DESK, SPECIAL)))


def test_an_added_token_is_text_and_a_special_one_is_invisible(
    tokenizer: SentencePieceTokenizer,
) -> None:
    assert tokenizer.decode([300, 640, 641, 301]).count("【客服】") == 1
    assert tokenizer.token_bytes(640) == "【客服】".encode()
    assert tokenizer.token_bytes(641) == b""
    assert (tokenizer.is_control(640), tokenizer.is_control(641)) == (False, True)
    assert (tokenizer.num_pieces, tokenizer.vocab_size) == (640, 642)


def test_what_a_user_types_is_an_added_token_but_never_a_special_one(
    tokenizer: SentencePieceTokenizer,
) -> None:
    token_ids = tokenizer.encode("问【客服】<|end|>")
    assert 640 in token_ids
    assert 641 not in token_ids
    assert tokenizer.decode(token_ids) == "问【客服】<|end|>"


@pytest.mark.parametrize("text", ["箱子【客服】在", "【客服】box", "box【客服】", "【客服】"])
def test_text_comes_back_streamed_or_whole(tokenizer: SentencePieceTokenizer, text: str) -> None:
    token_ids = tokenizer.encode(text)
    detokenizer = StreamingDetokenizer(tokenizer)
    streamed = "".join(map(detokenizer.add, token_ids)) + detokenizer.flush()
    assert streamed == tokenizer.decode(token_ids) == text


def test_a_space_before_each_part_is_put_where_the_model_was_trained_with_it(model: Path) -> None:
    plain = SentencePieceTokenizer(model, AddedTokens(tokens=(DESK,)))
    spaced = SentencePieceTokenizer(model, AddedTokens(tokens=(DESK,), space_before_each=True))
    assert plain.decode(plain.encode("a【客服】b")) == "a【客服】b"
    assert spaced.decode(spaced.encode("a【客服】b")) == "a【客服】 b"
    assert spaced.decode(spaced.encode("a【客服】 b")) == "a【客服】 b"


def test_other_ends_than_the_sentencepiece_model_s_are_taken(model: Path) -> None:
    added = AddedTokens(tokens=(SPECIAL,), bos_token_id=641, eos_token_id=641)
    tokenizer = SentencePieceTokenizer(model, added)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (641, 641)
    assert tokenizer.encode("a", add_bos=True)[0] == 641


def opened(directory: Path, model: Path, text: str) -> Tokenizer:
    """The tokenizer of a bundle whose added_tokens.json says this."""
    (directory / TOKENIZER).write_bytes(model.read_bytes())
    (directory / ADDED_TOKENS).write_text(text, encoding="utf-8")
    entries = {name: FileEntry(size=0, sha256="") for name in (TOKENIZER, ADDED_TOKENS)}
    manifest = bare_manifest().model_copy(update={"files": entries})
    return open_tokenizer(Bundle(path=directory, manifest=manifest))


def test_a_bundle_keeps_them_in_a_file(tmp_path: Path, model: Path) -> None:
    added = AddedTokens(tokens=(DESK, SPECIAL, SPACED, WORD), space_before_each=True)
    tokenizer = opened(tmp_path, model, added.model_dump_json())
    assert tokenizer.encode("a cat b") == SentencePieceTokenizer(model, added).encode("a cat b")


def test_a_bundle_without_that_file_has_the_pieces_alone(bundles: Path, model: Path) -> None:
    manifest = bare_manifest()
    tokenizer = open_tokenizer(Bundle(path=bundles / "talk-int4", manifest=manifest))
    assert tokenizer.vocab_size == SentencePieceTokenizer(model).vocab_size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps({"tokens": [{"id": -1, "content": "a"}]}),
        json.dumps({"tokens": [{"id": 10**9, "content": "a"}]}),
        json.dumps({"tokens": [{"id": 640, "content": ""}]}),
        json.dumps({"tokens": [{"id": 640, "content": "a", "color": 1}]}),
        json.dumps({"tokens": [], "eos_token_id": "</s>"}),
    ],
    ids=lambda text: text[:30],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, model: Path, text: str
) -> None:
    with pytest.raises(BundleError, match=r"added_tokens\.json") as caught:
        opened(tmp_path, model, text)
    assert "\n" not in str(caught.value)
