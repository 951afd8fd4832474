"""What weights are calibrated with: token ids of a file, or of the built-in text."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from runtime.bundle.reader import Bundle
from runtime.errors import PromptError
from runtime.json_file import read_file
from runtime.text.from_bundle import open_tokenizer
from runtime.text.typed import from_bytes
from toolchain.targets.cpu.calibration_lengths import LEAST_TOKENS, LONGEST, MOST_TOKENS
from toolchain.token_ids import check_ids, parse_ids

__all__ = ["BUILTIN", "Calibration", "builtin_text", "read_calibration"]

BUILTIN = "builtin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Texts, and where they are from.

    source_file: name -> sha256.
    sequences: token ids of each text, from its first token on.
    """

    source_file: dict[str, str]
    sequences: list[list[int]]


def builtin_text() -> str:
    """Chinese, English, code and numbers."""
    return (files("toolchain.targets.cpu") / "calibration.txt").read_text(encoding="utf-8")


def read_calibration(source: str, bundle: Bundle) -> Calibration:
    """The texts that weights are calibrated with: of a long file about MOST_TOKENS, from all over.

    Args:
        source: `builtin`, or the path of a file: lists of token ids in a .json, else plain text.
        bundle: the exported bundle, for its tokenizer and its sizes.

    Raises:
        PromptError: the file cannot be read, is neither of both, or is too short; or an id is not
            in the vocabulary.
    """
    data = builtin_text().encode() if source == BUILTIN else read_file(Path(source), PromptError)
    if source.endswith(".json"):
        texts = parse_ids(data, source)
        check_ids(bundle.manifest.model.vocab_size, texts)
    else:
        texts = [open_tokenizer(bundle).encode(from_bytes(data, source), add_bos=True)]
    longest = min(LONGEST, bundle.manifest.cache_len)
    pieces = [
        ids[start : start + longest] for ids in texts for start in range(0, len(ids), longest)
    ]
    num_tokens = sum(map(len, pieces))
    if num_tokens < LEAST_TOKENS:
        raise PromptError(
            f"{source} is too short to calibrate with",
            got=f"{num_tokens} tokens",
            allowed=f"{LEAST_TOKENS} or more",
            next_step="give a longer text, or --calibrate builtin",
        )
    return Calibration(
        source_file={f"calibrate {Path(source).name}": hashlib.sha256(data).hexdigest()},
        sequences=pieces[:: -(-num_tokens // MOST_TOKENS)],
    )
