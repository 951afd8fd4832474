"""Models of transformers with random weights, which the decoder is compared with."""

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from runtime.bundle.manifest import ModelConfig
from tests.models import TINY

BASE = TINY.model_copy(
    update={
        "vocab_size": 53,
        "hidden_size": 48,
        "intermediate_size": 72,
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        "head_dim": 12,
        "max_position_embeddings": 256,
    }
)


def llama(config: ModelConfig) -> LlamaForCausalLM:
    """Transformers' model with seeded weights so large that every one of them matters."""
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        rope |= config.rope_scaling.model_dump()
    keys = set(ModelConfig.model_fields) - {"rope_theta", "rope_scaling"}
    theirs = LlamaConfig(**config.model_dump(include=keys), rope_parameters=rope)
    model: LlamaForCausalLM = LlamaForCausalLM(theirs)
    model.set_attn_implementation("eager")
    model.train(False)
    generator = torch.Generator().manual_seed(20)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.3, 1.7, generator=generator)
        else:
            parameter.data.normal_(0.0, 1.5 / parameter.shape[1] ** 0.5, generator=generator)
    return model


def random_ids(config: ModelConfig, *shape: int) -> Tensor:
    return torch.randint(config.vocab_size, shape, generator=torch.Generator().manual_seed(3))
