"""Claims about a checkpoint with tokenizer.json alone: read as the library reads it, or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, processors

from export.errors import CheckpointError
from export.tokenizer_files import read_tokenizer
from export.tokenizer_json import MAX_PADDING
from runtime.bundle.reader import ADDED_TOKENS, TOKENIZER_JSON
from runtime.text.added_tokens import AddedTokens
from tests.chat_templates import CHATML
from tests.export.tokenizer_directories import bundled, model_of, refusal, write
from tests.hf_tokenizers import BOS, END, MAKERS, byte_level, save

Change = Callable[[Tokenizer], object]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder, "tokenizer_config.json", {"eos_token": END})
    return folder


def put(model: Path, library: Tokenizer) -> int:
    """Writes the tokenizer; gives its number of tokens."""
    save(library, model)
    return int(library.get_vocab_size())


def around(library: Tokenizer, form: str) -> None:
    """Sets what the library puts around a text, $A."""
    special = [(text, library.token_to_id(text)) for text in (BOS, END)]
    library.post_processor = processors.TemplateProcessing(form, special_tokens=special)


@pytest.mark.parametrize("maker", list(MAKERS))
def test_a_bundle_holds_the_file_as_it_is_with_its_tokens_and_roles(
    model: Path, maker: str
) -> None:
    library = MAKERS[maker]()
    size = put(model, library)
    files = read_tokenizer(model, model_of(size))
    assert files.files[TOKENIZER_JSON] == (model / TOKENIZER_JSON).read_bytes()
    assert (files.kind, files.template) == ("tokenizers", "none")
    tokenizer = bundled(model, size)
    text = "你好，🦙 world"
    assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.eos_token_id == files.eos_token_id == library.token_to_id(END)
    assert tokenizer.control_tokens.keys() == {
        each.content for each in library.get_added_tokens_decoder().values() if each.special
    }


def test_sentencepiece_comes_first_where_both_are_there(model: Path, miniature_dir: Path) -> None:
    (model / "tokenizer.model").write_bytes((miniature_dir / "tokenizer.model").read_bytes())
    write(model, "tokenizer_config.json", {})
    assert read_tokenizer(model, model_of(640)).kind == "sentencepiece"


def test_a_template_beside_it_is_kept(model: Path) -> None:
    size = put(model, byte_level())
    write(model, "tokenizer_config.json", {"eos_token": END, "chat_template": CHATML})
    assert read_tokenizer(model, model_of(size)).template == "jinja"


@pytest.mark.parametrize("says", [None, True, False])
def test_bos_is_added_as_the_library_or_the_settings_say(model: Path, says: bool | None) -> None:
    library = byte_level()
    around(library, f"{BOS} $A")
    size = put(model, library)
    write(model, "tokenizer_config.json", {"eos_token": END, "add_bos_token": says})
    tokenizer = bundled(model, size)
    assert tokenizer.bos_token_id == library.token_to_id(BOS)
    whole = library.encode("a", add_special_tokens=says is not False).ids
    assert tokenizer.encode("a", add_bos=True) == whole


def test_a_role_may_be_a_piece(model: Path) -> None:
    library = MAKERS["byte_fallback"]()
    size = put(model, library)
    write(model, "tokenizer_config.json", {"eos_token": "</s>", "bos_token": "<s>"})
    tokenizer = bundled(model, size)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.token_bytes(2) == b""


def test_a_token_that_only_the_settings_have_is_read_too(model: Path) -> None:
    size = put(model, byte_level())
    more = {"content": "<|more|>", "special": True}
    write(
        model,
        "tokenizer_config.json",
        {"eos_token": "<|more|>", "added_tokens_decoder": {str(size): more}},
    )
    tokenizer = bundled(model, size + 1)
    assert tokenizer.eos_token_id == size
    assert size not in tokenizer.encode("<|more|>")
    assert tokenizer.encode_parts(["a", size]) == [*tokenizer.encode("a"), size]


@pytest.mark.parametrize(("padding", "fits"), [(0, True), (MAX_PADDING, True), (512, False)])
def test_tokens_account_for_the_vocabulary(model: Path, padding: int, fits: bool) -> None:
    size = put(model, byte_level())
    if fits:
        assert bundled(model, size + padding).vocab_size == size
    else:
        said = refusal(model, size + padding)
        assert f"is not the tokenizer of this model; got {size} tokens" in said


def test_more_tokens_than_rows_are_refused(model: Path) -> None:
    size = put(model, byte_level())
    assert "has no row in the model" in refusal(model, size - 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: setattr(t, "decoder", decoders.WordPiece()), "its decoder is none"),
        (lambda t: setattr(t, "decoder", decoders.CTC()), "its decoder is none"),
        (lambda t: around(t, f"$A {END}"), "puts tokens after a text"),
        (lambda t: around(t, f"{BOS} {END} $A"), "puts more than BOS before a text"),
    ],
)
def test_a_tokenizer_that_the_runtime_cannot_follow_is_refused(
    model: Path, change: Change, said: str
) -> None:
    library = byte_level()
    change(library)
    assert said in refusal(model, put(model, library))


def test_another_kind_of_model_is_refused_by_its_name(model: Path) -> None:
    library = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    library.add_special_tokens([AddedToken(END)])
    assert "another kind of model; got WordLevel; allowed: BPE" in refusal(
        model, put(model, library)
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "names no eos_token"),
        ({"eos_token": "<|nowhere|>"}, "the eos_token '<|nowhere|>' is no token of tokenizer.json"),
        (
            {"eos_token": END, "added_tokens_decoder": {"9": {"content": "<|x|>"}}},
            "gives '<|x|>' another id",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    model: Path, settings: dict[str, Any], said: str
) -> None:
    size = put(model, byte_level())
    write(model, "tokenizer_config.json", settings)
    assert said in refusal(model, size)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"model": {"vocab": {"a": 1}}}'])
def test_a_broken_file_is_named(model: Path, data: bytes) -> None:
    (model / TOKENIZER_JSON).write_bytes(data)
    assert str(model / TOKENIZER_JSON) in refusal(model, 400)


def test_neither_file_is_named_with_both_names(model: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer\.model and no tokenizer\.json"):
        read_tokenizer(model, model_of(400))


def test_what_the_bundle_says_of_tokens_can_be_read_back(model: Path) -> None:
    size = put(model, byte_level())
    written = read_tokenizer(model, model_of(size)).files[ADDED_TOKENS]
    added = AddedTokens.model_validate_json(written)
    assert [token.content for token in added.tokens if not token.special] == ["<think>"]
    assert json.loads(written)["adds_bos"] is False
