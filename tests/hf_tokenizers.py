"""Small tokenizers of Hugging Face's library, trained here, in the two forms that there are."""

import json
from pathlib import Path

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from runtime.text.added_tokens import AddedToken as Added
from runtime.text.added_tokens import AddedTokens

LINES = [
    "你好，世界。今天天气很好，我们去公园散步。边缘设备上的模型。",
    "The quick brown fox jumps over the lazy dog, and says hello to the world.",
    '  return [  {\n    x: \'A1\', "ok": true, "n": [1, 2.5]  }  ]\r\n',
    "请用中文回答: what is the capital of France? user assistant system 🦙🦙",
]
BOS, TURN, END, PAD = "<|begin|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CONTROL = (PAD, TURN, END, BOS)
SHOWN = "<think>"  # added, and no control token
MARK = "\u2581"


def byte_level(vocab_size: int = 400) -> Tokenizer:
    """As Llama 3's and Qwen's: BPE over bytes, after NFC."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        LINES,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return with_added(made)


def byte_fallback() -> Tokenizer:
    """As Llama 2's and Mistral's: BPE over characters, U+2581 for spaces, bytes for the rest."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", MARK)
    trained.train_from_iterator(
        [f" {line}" for line in LINES[:2]],
        trainers.BpeTrainer(vocab_size=200, show_progress=False),
    )
    learnt = json.loads(trained.to_str())["model"]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [*first, *(piece for piece in learnt["vocab"] if piece not in first)]
    made = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)},
            merges=[tuple(pair) for pair in learnt["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace(MARK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = [AddedToken(text, normalized=False, special=True) for text in first[:3]]
    made.add_special_tokens(special)
    return with_added(made)


MAKERS = {"byte_level": byte_level, "byte_fallback": byte_fallback}


def with_added(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in CONTROL]
    )
    tokenizer.add_tokens([AddedToken(SHOWN, normalized=False, special=False)])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> Path:
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def added_of(tokenizer: Tokenizer, *, bos: str | None = None, eos: str = END) -> AddedTokens:
    """What export writes beside it."""
    tokens = [
        Added(id=i, content=each.content, special=each.special, normalized=each.normalized)
        for i, each in sorted(tokenizer.get_added_tokens_decoder().items())
    ]
    return AddedTokens(
        tokens=tuple(tokens),
        bos_token_id=None if bos is None else tokenizer.token_to_id(bos),
        eos_token_id=tokenizer.token_to_id(eos),
        adds_bos=bos is not None,
    )
