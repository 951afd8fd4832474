"""Small tokenizers made as Llama's was: identity normalisation, byte fallback."""

from collections.abc import Sequence
from pathlib import Path

from sentencepiece import SentencePieceTrainer


def train_tokenizer(
    folder: Path, lines: Sequence[str], vocab_size: int, *, add_dummy_prefix: bool
) -> Path:
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=vocab_size,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=add_dummy_prefix,
        minloglevel=2,
    )
    return folder / "tokenizer.model"
