"""The rotary frequencies of each kind of scaling.

Frequencies are computed in float32 in the order of operations that transformers has: the angle of a
far position moves by a hundredth with the last bit of a frequency.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from runtime.bundle.manifest import ModelConfig
from runtime.bundle.rope import DynamicRope, LinearRope, Llama3Rope, NtkRope, YarnRope

__all__ = ["inverse_frequencies"]


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """What positions are multiplied with (arXiv:2104.09864), float32 (D / 2,)."""
    scaling = config.rope_scaling
    if scaling is None:
        return _unscaled(config, config.rope_theta)
    return KINDS[type(scaling)](config, scaling)


def _unscaled(config: ModelConfig, theta: float) -> Tensor:
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    return 1.0 / (theta**exponents)


def _linear(config: ModelConfig, scaling: LinearRope) -> Tensor:
    return _unscaled(config, config.rope_theta) / scaling.factor


def _ntk(config: ModelConfig, scaling: NtkRope) -> Tensor:
    """The fixed alpha of Chinese-LLaMA-Alpaca-2, scripts/attn_and_long_ctx_patches.py."""
    exponent = config.head_dim / (config.head_dim - 2)
    return _unscaled(config, config.rope_theta * scaling.alpha**exponent) / scaling.factor


def _dynamic(config: ModelConfig, _: DynamicRope) -> Tensor:
    """Those of the trained length: a cache of rotated keys cannot follow another base."""
    return _unscaled(config, config.rope_theta)


def _yarn(config: ModelConfig, scaling: YarnRope) -> Tensor:
    """A ramp over the dimensions between two numbers of turns within the original length."""
    half = config.head_dim // 2
    periods = config.rope_theta ** (
        torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    )
    kept, divided = 1.0 / periods, 1.0 / (scaling.factor * periods)

    def dimension(turns: float) -> float:
        """The dimension that turns so often within the original length."""
        longest = scaling.original_max_position_embeddings / (turns * 2 * math.pi)
        return config.head_dim * math.log(longest) / (2 * math.log(config.rope_theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.head_dim - 1)
    if low == high:
        high += 0.001  # as transformers: a step instead of a ramp
    ramp = ((torch.arange(half, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    stays = 1 - ramp
    return divided * (1 - stays) + kept * stays


def _llama3(config: ModelConfig, scaling: Llama3Rope) -> Tensor:
    """Long waves are divided by the factor, short ones stay, those between are mixed."""
    frequencies = _unscaled(config, config.rope_theta)
    length = scaling.original_max_position_embeddings
    longest, shortest = length / scaling.low_freq_factor, length / scaling.high_freq_factor
    waves = 2 * math.pi / frequencies
    scaled = torch.where(waves > longest, frequencies / scaling.factor, frequencies)
    smooth = (length / waves - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    mixed = (1 - smooth) * scaled / scaling.factor + smooth * scaled
    between = ~(waves < shortest) & ~(waves > longest)
    return torch.where(between, mixed, scaled)


KINDS: dict[type, Callable[[ModelConfig, Any], Tensor]] = {
    LinearRope: _linear,
    NtkRope: _ntk,
    DynamicRope: _dynamic,
    YarnRope: _yarn,
    Llama3Rope: _llama3,
}
