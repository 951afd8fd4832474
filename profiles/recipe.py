"""How finely each kind of linear layer is quantised: data of a profile, and its defaults."""

from typing import Literal, NamedTuple

from runtime.record import Record

__all__ = [
    "BITS",
    "DEFAULT_RECIPES",
    "Departure",
    "Fineness",
    "LayerKind",
    "Quantized",
    "Recipe",
    "layer_kind",
]

Quantized = Literal["int8", "int4"]
BITS: dict[str, int] = {"int8": 8, "int4": 4}

# Products of one input are quantised alike: they may be computed as one.
LayerKind = Literal["qkv_proj", "o_proj", "gate_up_proj", "down_proj", "lm_head"]
KINDS: dict[str, LayerKind] = {  # by the last name of the layer's module
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "o_proj": "o_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
    "down_proj": "down_proj",
    "lm_head": "lm_head",
}


class Departure(Record):
    """Where a kind of layer departs from the profile's weights and block_size."""

    weights: Quantized | None = None
    block_size: Literal[16, 32, 64, 128, 256] | None = None


class Fineness(NamedTuple):
    """Bits of a weight, and how many inputs share a scale."""

    bits: int
    block_size: int


Recipe = dict[LayerKind, Departure]

# The head's error reaches the logits undamped. In int8 it costs 3 % more bytes to read for a 7B.
DEFAULT_RECIPES: dict[Quantized, Recipe] = {"int4": {"lm_head": Departure(weights="int8")}}


def layer_kind(module: str) -> LayerKind:
    """The kind of a linear layer, from its module such as layers.0.mlp.up_proj."""
    return KINDS[module.rpartition(".")[2]]
