"""Writes a checkpoint of the shape of Chinese-Alpaca-2-7B, with random weights, in `.bin` shards.

For measuring what a checkpoint on disk costs to read; 32 layers are 13.9 GB, one shard of which
is in memory at a time.

Usage: seven_b.py DIR [--layers 32] [--shards 2]
"""

import argparse
import json
from pathlib import Path

import torch

from export.config import load_config
from export.dummy import DummyCheckpoint, dummy_tokenizer
from export.parameters import hf_name, parameter_shape, parameters

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "vocab_size": 55296,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def write_config(directory: Path, layers: int, **changes: int) -> None:
    """Writes config.json, which is all that `--load-format dummy` reads."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {**CONFIG, "num_hidden_layers": layers, **changes}
    (directory / "config.json").write_text(json.dumps(config, indent=2))


def write_checkpoint(directory: Path, layers: int, num_shards: int = 2) -> None:
    """Writes config.json, tokenizer.model, the shards and their index."""
    write_config(directory, layers)
    config = load_config(directory)
    (directory / "tokenizer.model").write_bytes(dummy_tokenizer(config.vocab_size))
    source, names = DummyCheckpoint(config), parameters(config)
    per_shard = -(-len(names) // num_shards)
    weight_map = {}
    for shard in range(num_shards):
        file = f"pytorch_model-{shard + 1:05}-of-{num_shards:05}.bin"
        tensors = {}
        for name in names[shard * per_shard : (shard + 1) * per_shard]:
            flat = torch.cat(list(source.chunks(name)))
            tensors[hf_name(name)] = flat.view(parameter_shape(config, name))
            weight_map[hf_name(name)] = file
        torch.save(tensors, directory / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def main() -> None:
    """Writes the checkpoint that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, default=CONFIG["num_hidden_layers"])
    parser.add_argument("--shards", type=int, default=2)
    arguments = parser.parse_args()
    write_checkpoint(arguments.directory, arguments.layers, arguments.shards)


if __name__ == "__main__":
    main()
