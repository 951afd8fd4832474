"""A checkpoint with a tokenizer.json and a chat template: random weights, answers without sense."""

import json
from pathlib import Path

from runtime.bundle.manifest import ModelConfig
from tests.chat_templates import CHATML
from tests.models import TINY

CONFIG = TINY.model_copy(
    update={"vocab_size": 408, "num_hidden_layers": 2, "max_position_embeddings": 512}
)
KEYS = {
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
}


def write_chatml(directory: Path, config: ModelConfig = CONFIG) -> None:
    """Writes the checkpoint; needs torch, safetensors and tokenizers."""
    import torch
    from safetensors.torch import save_file

    from export.parameters import expected_shapes
    from tests.hf_tokenizers import END, PAD, byte_level, save

    tokenizer = byte_level(vocab_size=403)  # and five added
    directory.mkdir(parents=True, exist_ok=True)
    save(tokenizer, directory)
    ends = [tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)]
    files = {
        "config.json": {
            **config.model_dump(include=KEYS),
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "eos_token_id": ends,
        },
        "generation_config.json": {"eos_token_id": ends, "do_sample": False},
        "tokenizer_config.json": {
            "eos_token": END,
            "pad_token": PAD,
            "chat_template": CHATML,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    generator = torch.Generator().manual_seed(11)
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in expected_shapes(config).items():
        if len(shape) == 1:
            tensors[name] = torch.ones(shape, dtype=torch.float16)
        else:
            tensors[name] = torch.randn(shape, generator=generator) * 1.5 / shape[1] ** 0.5
    save_file(
        {name: each.half() for name, each in tensors.items()}, directory / "model.safetensors"
    )
