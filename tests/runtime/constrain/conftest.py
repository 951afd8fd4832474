"""Tokenizers to write answers with: small ones that are trained here, and the real one."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from runtime.text.added_tokens import AddedToken, AddedTokens
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.tokenizer import Tokenizer
from tests.paths import SHARED
from tests.tokenizers import train_tokenizer

if TYPE_CHECKING:
    from tests.runtime.constrain.answers import Writer

# The environment of a box has neither; there nothing of this folder runs.
if find_spec("llguidance") is None or find_spec("jsonschema") is None:
    collect_ignore_glob = ["test_*.py"]

REAL_MODEL = SHARED / "tokenizer/tokenizer.model"
LINES = [
    '{"name": "北京", "n": [1, 2.5, -3], "ok": true, "no": null, "城市": false}',
    "yes or no, 是 or 否: 2026-11-27, the quick brown fox jumps over the lazy dog.",
    "  return [  {\n    x: 'A1'  }  ]",
]


def writer_of(tokenizer: Tokenizer) -> "Writer":
    from tests.runtime.constrain.answers import make_writer

    return make_writer(tokenizer)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> "Writer":
    """Bytes spell what its pieces do not; two tokens were added, one of them without a text."""
    model = train_tokenizer(tmp_path_factory.mktemp("tiny"), LINES, 380, add_dummy_prefix=True)
    added = AddedTokens(
        tokens=(
            AddedToken(id=380, content="<pad>", special=True),
            AddedToken(id=381, content='"}', special=False),
        )
    )
    return writer_of(SentencePieceTokenizer(model, added))


@pytest.fixture(scope="session")
def unprefixed(tmp_path_factory: pytest.TempPathFactory) -> "Writer":
    """Its texts begin without a space, so that none is dropped."""
    folder = tmp_path_factory.mktemp("unprefixed")
    model = train_tokenizer(folder, LINES, 380, add_dummy_prefix=False)
    return writer_of(SentencePieceTokenizer(model))


@pytest.fixture(scope="session")
def real() -> "Writer":
    if not REAL_MODEL.exists():
        pytest.skip(f"the real tokenizer is not at {REAL_MODEL}")
    return writer_of(SentencePieceTokenizer(REAL_MODEL))


@pytest.fixture(params=["tiny", "unprefixed", "real"])
def writer(request: pytest.FixtureRequest) -> "Writer":
    made: Writer = request.getfixturevalue(request.param)
    return made
