"""Claims about added and special tokens: ids and texts are those of transformers.

The truth is transformers' own tokenizer of the same directory, which leaves special tokens in a
text alone when asked to (split_special_tokens).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaTokenizer

from export.tokenizer_files import read_tokenizer
from runtime.text.tokenizer import Tokenizer
from tests.export.tokenizer_directories import (
    DESK,
    FLAGS,
    bundled,
    model_of,
    tokenizer_directory,
    write,
)

IMAGE, CAT = "<|image|>", "cat"
Listing = dict[int, dict[str, Any]]
TOKENS: Listing = {
    640: {"content": DESK},
    641: {"content": IMAGE, "special": True},
    642: {"content": CAT, "lstrip": True, "rstrip": True},
    643: {"content": "dog", "single_word": True},
    644: {"content": "【客", "normalized": True},
    645: {"content": "box", "normalized": True, "lstrip": True},
    646: {"content": "<|image", "rstrip": True},
}
PARTS = [*(token["content"] for token in TOKENS.values()), " ", "  ", "a", "盒子", "\n", "s", "!"]


@pytest.fixture
def model(tmp_path: Path, miniature_dir: Path) -> Path:
    return tokenizer_directory(tmp_path / "model", miniature_dir)


def in_config(model: Path, tokens: Listing, **more: object) -> None:
    decoder = {str(token_id): {**FLAGS, **token} for token_id, token in tokens.items()}
    settings = {"tokenizer_class": "LlamaTokenizer", "added_tokens_decoder": decoder, **more}
    write(model, "tokenizer_config.json", settings)


def in_list(model: Path, tokens: Listing) -> None:
    """As transformers wrote them up to 4.33: texts and ids, and a list of the special ones."""
    write(model, "added_tokens.json", {t["content"]: i for i, t in tokens.items()})
    special = [token["content"] for token in tokens.values() if token.get("special")]
    write(model, "tokenizer_config.json", {"additional_special_tokens": special})


def in_tokenizer_json(model: Path, tokens: Listing) -> None:
    """As transformers 5 writes them."""
    LlamaTokenizer.from_pretrained(model).save_pretrained(model)
    document = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    document["added_tokens"] += [{"id": i, **FLAGS, **token} for i, token in tokens.items()]
    write(model, "tokenizer.json", document)
    (model / "tokenizer_config.json").unlink()


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, miniature_dir: Path
) -> dict[bool, tuple[Tokenizer, Any]]:
    """Ours and transformers', without and with legacy."""
    made = {}
    for legacy in (False, True):
        model = tokenizer_directory(tmp_path_factory.mktemp("both") / "model", miniature_dir)
        in_config(model, TOKENS, legacy=legacy)
        made[legacy] = bundled(model, 647), LlamaTokenizer.from_pretrained(model)
    return made


def theirs_of(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return ids


@pytest.mark.parametrize("legacy", [False, True])
@given(parts=st.lists(st.sampled_from(PARTS), max_size=12))
@settings(max_examples=300)
def test_texts_have_the_ids_and_ids_the_texts_of_transformers(
    both: dict[bool, tuple[Tokenizer, Any]], legacy: bool, parts: list[str]
) -> None:
    ours, theirs = both[legacy]
    text = "x" + "".join(parts)  # transformers 5 drops a space before the first word
    token_ids = ours.encode(text)
    assert token_ids == theirs_of(theirs, text)
    assert ours.decode(token_ids) == theirs.decode(token_ids, skip_special_tokens=True)


@given(token_ids=st.lists(st.integers(3 + 256, 646), max_size=12))
@settings(max_examples=300)
def test_any_ids_have_the_text_of_transformers(
    both: dict[bool, tuple[Tokenizer, Any]], token_ids: list[int]
) -> None:
    ours, theirs = both[False]
    assert ours.decode(token_ids) == theirs.decode(token_ids, skip_special_tokens=True)


@pytest.mark.parametrize("spell", [in_config, in_list, in_tokenizer_json])
def test_added_tokens_are_read_from_every_file_that_lists_them(
    model: Path, spell: Callable[[Path, Listing], None]
) -> None:
    tokens: Listing = {640: {"content": DESK}, 641: {"content": IMAGE, "special": True}}
    spell(model, tokens)
    ours, theirs = bundled(model, 642), LlamaTokenizer.from_pretrained(model)
    for text in (f"a{DESK}b", f"{DESK}{DESK}", f"a {IMAGE} b", "plain"):
        assert ours.encode(text) == theirs_of(theirs, text)
    for token_ids in ([640], [641], [300, 640, 301, 641, 302]):
        assert ours.decode(token_ids) == theirs.decode(token_ids, skip_special_tokens=True)
    assert ours.is_control(641)
    assert not ours.is_control(640)


def test_a_special_token_that_a_user_types_stays_text(model: Path) -> None:
    in_config(model, TOKENS)
    tokenizer = bundled(model, 647)
    token_ids = tokenizer.encode(f"a{IMAGE}b")
    assert 641 not in token_ids
    assert tokenizer.decode(token_ids) == f"a{IMAGE}b"


@pytest.mark.parametrize("where", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("spelled", ["<|im_end|>", {"content": "<|im_end|>", "lstrip": False}])
def test_an_added_token_may_end_answers(model: Path, where: str, spelled: object) -> None:
    write(model, "added_tokens.json", {"<|im_start|>": 640, "<|im_end|>": 641})
    write(model, where, {"eos_token": spelled})
    files = read_tokenizer(model, model_of(642))
    tokenizer = bundled(model, 642)
    assert (files.eos_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (641, 641, 1)
    assert tokenizer.decode([641]) == ""
    assert 641 not in tokenizer.encode("<|im_end|>")
    assert tokenizer.encode("<|im_start|>") == [640], "nothing says that this one is special"


def test_special_tokens_without_an_id_get_the_next_rows_as_in_transformers(model: Path) -> None:
    write(model, "added_tokens.json", {DESK: 640})
    special = {"pad_token": "<pad>", "additional_special_tokens": ["<|a|>", "</s>"]}
    write(model, "tokenizer_config.json", special)
    theirs = LlamaTokenizer.from_pretrained(model)
    tokenizer = bundled(model, 648)
    for text in ("<pad>", "<|a|>"):
        token_id = theirs.convert_tokens_to_ids(text)
        assert token_id in (641, 642)
        assert tokenizer.is_control(token_id)
    assert tokenizer.vocab_size == 643
