"""Claims about a checkpoint's tokenizer: it accounts for the model's vocabulary, or is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from transformers import LlamaTokenizer

from export.sentencepiece_files import MAX_PADDING
from export.tokenizer_files import read_tokenizer
from runtime.bundle.reader import ADDED_TOKENS, TOKENIZER
from tests.export.tokenizer_directories import (
    DESK,
    FLAGS,
    PIECES,
    bundled,
    model_of,
    refusal,
    tokenizer_directory,
    write,
)


@pytest.fixture
def model(tmp_path: Path, miniature_dir: Path) -> Path:
    return tokenizer_directory(tmp_path / "model", miniature_dir)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {
            "special_tokens_map.json": {
                "pad_token": "<pad>",
                "eos_token": "</s>",
                "bos_token": "<s>",
            }
        },
        {"tokenizer_config.json": {"pad_token": None, "unk_token": {"content": "<unk>"}}},
        {"added_tokens.json": {"<s>": 1, "</s>": 2, "<unk>": 0}},
        {"tokenizer_config.json": {"added_tokens_decoder": {"2": {**FLAGS, "content": "</s>"}}}},
        {
            "special_tokens_map.json": {"pad_token": "<pad>"},
            "added_tokens.json": {"<pad>": PIECES},  # beyond the model, which never pads
        },
    ],
)
def test_what_adds_nothing_leaves_no_file_in_the_bundle(
    model: Path, files: dict[str, object]
) -> None:
    for name, content in files.items():
        write(model, name, content)
    assert read_tokenizer(model, model_of(PIECES)).files.keys() == {TOKENIZER}


@pytest.mark.parametrize(
    ("vocab_size", "named", "fits"),
    [
        (PIECES, 0, True),
        (PIECES + 3, 3, True),
        (PIECES + 8, 3, True),
        (PIECES + MAX_PADDING, 0, True),
        (PIECES + MAX_PADDING + 1, 0, False),
        (PIECES + MAX_PADDING + 1, 1, True),
        (PIECES + MAX_PADDING + 4, 3, False),
        (32000, 3, False),
    ],
)
def test_pieces_and_added_tokens_account_for_the_vocabulary(
    model: Path, vocab_size: int, named: int, fits: bool
) -> None:
    """A tokenizer of another model was taken, and the model wrote the wrong words."""
    write(model, "added_tokens.json", {f"<{i}>": PIECES + i for i in range(named)})
    if fits:
        assert bundled(model, vocab_size).vocab_size == PIECES + named
    else:
        message = refusal(model, vocab_size)
        assert "tokenizer.model is not the tokenizer of this model" in message
        assert f"got {PIECES} pieces and {named} added tokens" in message
        assert f"allowed: {vocab_size} together" in message


def test_more_pieces_than_rows_are_refused_with_both_numbers(model: Path) -> None:
    message = refusal(model, PIECES - 1)
    assert f"more pieces than the model; got {PIECES}; allowed: up to {PIECES - 1}" in message


def test_an_id_between_that_nothing_names_has_no_text(model: Path) -> None:
    write(model, "added_tokens.json", {DESK: 650})
    tokenizer = bundled(model, 652)
    assert tokenizer.decode([645, 650]) == DESK
    assert tokenizer.encode(DESK) == [650]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"added_tokens.json": {DESK: 500}},
            ("id 500 has two texts", f"got the added token {DESK!a}", "allowed: the piece"),
        ),
        (
            {"added_tokens.json": {DESK: 648}},
            ("has no row in the model", "got id 648", "allowed: up to 647"),
        ),
        (
            {
                "added_tokens.json": {DESK: 640},
                "tokenizer.json": {"added_tokens": [{"id": 640, "content": "<|b|>"}]},
            },
            ("disagree about an added token",),
        ),
        (
            {
                "added_tokens.json": {DESK: 640},
                "tokenizer.json": {"added_tokens": [{"id": 641, "content": DESK}]},
            },
            ("disagree about an added token",),
        ),
        ({"added_tokens.json": []}, ("added_tokens.json is not a JSON object",)),
        ({"added_tokens.json": {DESK: -1}}, ("added_tokens.json: added token -1: id",)),
        ({"added_tokens.json": {DESK: 1.5}}, ("added token 1.5: id",)),
        ({"added_tokens.json": {"": 640}}, ("added token 640: content",)),
        ({"added_tokens.json": {DESK: 10**30}}, ("added token 1000",)),
        ({"tokenizer_config.json": {"added_tokens_decoder": [1]}}, ("is not an object",)),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"x": {}}}}, ("added token x: id",)),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"640": None}}}, ("640: content",)),
        (
            {
                "tokenizer_config.json": {
                    "added_tokens_decoder": {"640": {"content": DESK, "special": 3}}
                }
            },
            ("640: special",),
        ),
        ({"tokenizer.json": {"added_tokens": {}}}, ("added_tokens is not a list of objects",)),
        ({"tokenizer_config.json": {"add_bos_token": False}}, ("add_bos_token; got False",)),
        ({"tokenizer_config.json": {"add_eos_token": True}}, ("add_eos_token; got True",)),
        ({"tokenizer_config.json": {"sp_model_kwargs": {"alpha": 1}}}, ("sp_model_kwargs; got",)),
    ],
)
def test_files_that_contradict_the_model_or_each_other_are_refused_by_name(
    model: Path, files: dict[str, object], said: tuple[str, ...]
) -> None:
    for name, content in files.items():
        write(model, name, content)
    message = refusal(model, 648)
    assert all(part in message for part in said), message


def test_an_end_of_answers_without_an_id_needs_a_row(model: Path) -> None:
    write(model, "special_tokens_map.json", {"eos_token": "<|im_end|>"})
    assert bundled(model, 648).eos_token_id == 640
    assert "the eos_token '<|im_end|>' has no row in the model" in refusal(model, 640)


@pytest.mark.parametrize("name", [TOKENIZER, "added_tokens.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["pointer", "dangling", "deep"])
def test_a_file_that_cannot_be_used_is_named_as_what_it_is(
    model: Path, name: str, kind: str
) -> None:
    file = model / name
    file.unlink(missing_ok=True)
    if kind == "dangling":
        file.symlink_to("/nowhere/file")
    elif kind == "deep":
        file.write_text("[" * 100_000)
    else:
        file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\n")
    message = refusal(model, PIECES)
    assert str(file) in message
    said = {"pointer": "git-lfs pointer", "dangling": "link to nowhere", "deep": "is not"}
    assert said[kind] in message


@pytest.mark.parametrize("data", [b"", b"\n", b"garbage", b"\x0a\x05abc"])
def test_a_tokenizer_that_is_no_sentencepiece_model_is_named(model: Path, data: bytes) -> None:
    (model / TOKENIZER).write_bytes(data)
    assert f"{model / TOKENIZER} is not a SentencePiece model" in refusal(model, PIECES)


def test_the_original_llama_s_tokenizer_is_not_alpaca_s(model: Path, shared_data: Path) -> None:
    """32,000 pieces beside 55,296 rows, and 49,954 of Alpaca-1."""
    sp: Any = sentencepiece_model_pb2  # its classes are made at import
    real = sp.ModelProto()
    real.ParseFromString((shared_data / "tokenizer" / TOKENIZER).read_bytes())
    for pieces in (49_953, 32_000):
        del real.pieces[pieces:]
        (model / TOKENIZER).write_bytes(real.SerializeToString())
        assert f"got {pieces} pieces and 0 added tokens; allowed: 55296" in refusal(model, 55_296)


def test_another_tokenizer_json_is_refused_by_the_first_piece_that_differs(model: Path) -> None:
    """transformers reads tokenizer.json where both are there."""
    LlamaTokenizer.from_pretrained(model).save_pretrained(model)
    document = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    assert read_tokenizer(model, model_of(PIECES)).files.keys() == {TOKENIZER}
    processor = SentencePieceProcessor(model_file=str(model / TOKENIZER))
    one, two = processor.id_to_piece(600), processor.id_to_piece(601)
    vocab = document["model"]["vocab"]
    for changed in (
        vocab | {one: 601, two: 600},
        {piece: token_id for piece, token_id in vocab.items() if piece != one},
        vocab | {"another": 640},
    ):
        document["model"]["vocab"] = changed
        write(model, "tokenizer.json", document)
        assert "tokenizer.json is not tokenizer.model in another form" in refusal(model, 700)


def test_the_bundle_says_only_what_the_sentencepiece_model_does_not(model: Path) -> None:
    decoder = {"2": {**FLAGS, "content": "</s>"}, "640": {**FLAGS, "content": DESK}}
    write(model, "tokenizer_config.json", {"added_tokens_decoder": decoder})
    written = json.loads(read_tokenizer(model, model_of(641)).files[ADDED_TOKENS])
    assert [token["id"] for token in written["tokens"]] == [640]
