"""Sizes that follow from a model's shape, whatever the target."""

import math

from export.parameters import LM_HEAD, parameter_shape, parameters
from runtime.bundle.manifest import ModelConfig

__all__ = [
    "cache_elements",
    "embedding_elements",
    "linear_shapes",
    "num_parameters",
    "vector_elements",
]


def linear_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every linear layer by name, the LM head included."""
    names = [name for name in parameters(config) if not name.startswith("embed_")]
    if config.tie_word_embeddings:
        names.append(LM_HEAD)  # computed with, though not stored twice
    shapes = {name: parameter_shape(config, name) for name in names}
    return {name: (shape[0], shape[1]) for name, shape in shapes.items() if len(shape) == 2}


def embedding_elements(config: ModelConfig) -> int:
    """V x E."""
    return config.vocab_size * config.hidden_size


def vector_elements(config: ModelConfig) -> int:
    """Norms and biases."""
    shapes = (parameter_shape(config, name) for name in parameters(config))
    return sum(shape[0] for shape in shapes if len(shape) == 1)


def num_parameters(config: ModelConfig) -> int:
    """Numbers in the checkpoint."""
    return sum(math.prod(parameter_shape(config, name)) for name in parameters(config))


def cache_elements(config: ModelConfig, rows: int) -> int:
    """Keys and values of so many tokens in every layer."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * rows
