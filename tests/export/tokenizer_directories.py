"""Directories with a tokenizer, made up by the tests of what export reads from them."""

import json
import shutil
from pathlib import Path

import pytest

from export.errors import CheckpointError
from export.tokenizer_files import read_tokenizer
from runtime.bundle.manifest import FileEntry, ModelConfig
from runtime.bundle.reader import TOKENIZER, Bundle
from runtime.text.from_bundle import open_tokenizer
from runtime.text.tokenizer import Tokenizer
from tests.models import TINY, bare_manifest

PIECES = 640  # of the miniature's tokenizer
DESK = "【客服】"  # an added token
# What transformers writes of an added token besides its text.
FLAGS = {
    "lstrip": False,
    "normalized": False,
    "rstrip": False,
    "single_word": False,
    "special": False,
}


def model_of(vocab_size: int) -> ModelConfig:
    return TINY.model_copy(update={"vocab_size": vocab_size})


def tokenizer_directory(directory: Path, other: Path) -> Path:
    """A directory with the tokenizer.model of another and nothing else."""
    directory.mkdir()
    shutil.copy(other / TOKENIZER, directory)
    return directory


def write(model: Path, name: str, content: object) -> None:
    (model / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def bundled(model: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer as a bundle has it."""
    bundle = model.parent / "bundle"
    bundle.mkdir(exist_ok=True)
    read = read_tokenizer(model, model_of(vocab_size))
    for name, data in read.files.items():
        (bundle / name).write_bytes(data)
    entries = {name: FileEntry(size=len(data), sha256="") for name, data in read.files.items()}
    kinds = {"tokenizer": read.kind, "template": read.template}
    manifest = bare_manifest().model_copy(update={"files": entries, **kinds})
    return open_tokenizer(Bundle(path=bundle, manifest=manifest))


def refusal(model: Path, vocab_size: int) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_tokenizer(model, model_of(vocab_size))
    assert "\n" not in str(caught.value)
    return str(caught.value)
