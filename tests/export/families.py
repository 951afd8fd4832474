"""Tiny checkpoints of each architecture, made by transformers with random weights."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from export.dummy import dummy_tokenizer

VOCABULARY = 512
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
# Family -> transformers' name, and what it has besides SIZES.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama 2": ("Llama", {"num_key_value_heads": 4}),
    "Llama 2, YaRN": ("Llama", {"rope_parameters": YARN}),
    "Llama 3": ("Llama", {"tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "Mistral": ("Mistral", {"sliding_window": 200}),
    "Qwen 2.5": ("Qwen2", {"tie_word_embeddings": True}),
    "Qwen 3": ("Qwen3", {"head_dim": 32}),
}


def family(name: str, vocab_size: int = VOCABULARY, **sizes: int) -> PreTrainedModel:
    """Transformers' model with seeded weights of float16, so large that every one counts.

    Biases and norms too: transformers makes them zeros and ones.
    """
    kind, changes = FAMILIES[name]
    config = getattr(transformers, f"{kind}Config")(
        **SIZES | changes | {"vocab_size": vocab_size} | sizes
    )
    model: PreTrainedModel = getattr(transformers, f"{kind}ForCausalLM")(config)
    model.train(False)
    generator = torch.Generator().manual_seed(20)
    for key, parameter in model.named_parameters():
        if "norm" in key:
            parameter.data.uniform_(0.5, 1.5, generator=generator)
        elif key.endswith("bias"):
            parameter.data.normal_(0.0, 0.5, generator=generator)
        else:
            parameter.data.normal_(0.0, 1.2 / parameter.shape[1] ** 0.5, generator=generator)
        parameter.data = parameter.data.half().float()  # and not the frequencies
    return model


def save_family(
    name: str, directory: Path, vocab_size: int = VOCABULARY, **sizes: int
) -> PreTrainedModel:
    """Writes the checkpoint, with a made-up tokenizer; returns the model in float32."""
    model = family(name, vocab_size, **sizes)
    model.save_pretrained(directory)
    (directory / "tokenizer.model").write_bytes(dummy_tokenizer(vocab_size))
    return model
