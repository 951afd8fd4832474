"""Adapters as PEFT writes them, with random factors, and the bases that they belong to."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from export.parameters import expected_shapes
from runtime.bundle.manifest import ModelConfig
from tests.models import TINY

BASE = TINY.model_copy(update={"num_hidden_layers": 2})
LINEARS = {
    name.removesuffix(".weight")
    for name, shape in expected_shapes(BASE).items()
    if len(shape) == 2 and "layers" in name
}
TARGETS = sorted({module.rsplit(".", 1)[1] for module in LINEARS})
PREFIX = "base_model.model."
SETTINGS = {
    "peft_type": "LORA",
    "base_model_name_or_path": "llama-2-7b",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "modules_to_save": None,
    "r": 4,
    "target_modules": TARGETS,
    "task_type": "CAUSAL_LM",
}

Tensors = dict[str, Tensor]


def write_base(
    directory: Path, config: ModelConfig = BASE, dtype: torch.dtype = torch.float32
) -> Tensors:
    """A checkpoint without a tokenizer; returns its tensors."""
    directory.mkdir()
    values = {**config.model_dump(exclude={"rope_scaling"}), "architectures": ["LlamaForCausalLM"]}
    (directory / "config.json").write_text(json.dumps(values))
    generator = torch.Generator().manual_seed(11)
    tensors = {
        name: torch.randn(shape, generator=generator).mul(0.2).to(dtype)
        if len(shape) == 2
        else torch.ones(shape, dtype=dtype)
        for name, shape in expected_shapes(config).items()
    }
    save_file(tensors, directory / "model.safetensors")
    return tensors


def factors(ranks: dict[str, int], config: ModelConfig = BASE) -> Tensors:
    """A and B of each module by their names in PEFT's files."""
    generator, shapes = torch.Generator().manual_seed(12), expected_shapes(config)
    tensors: Tensors = {}
    for module, rank in sorted(ranks.items()):
        rows, columns = shapes[f"{module}.weight"]
        for factor, shape in (("A", (rank, columns)), ("B", (rows, rank))):
            name = f"{PREFIX}{module}.lora_{factor}.weight"
            tensors[name] = torch.randn(shape, generator=generator) * 0.2
    return tensors


def write_adapter(directory: Path, tensors: Tensors, **changes: object) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps({**SETTINGS, **changes}))
    save_file(tensors, directory / "adapter_model.safetensors")
    return directory
