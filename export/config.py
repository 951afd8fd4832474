"""config.json -> ModelConfig, refusing what the decoder cannot do instead of guessing."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from export.errors import ConfigError
from profiles import Profile
from runtime.bundle.manifest import ModelConfig
from runtime.record import first_problem

__all__ = ["check_context", "load_config", "num_positions"]

ARCHITECTURE = "LlamaForCausalLM"
# Keys that change what the model computes, with the only value that the decoder implements.
FIXED = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "quantization_config": None,
    "sliding_window": None,
}
ROPE_KEYS = {"rope_type", "type", "rope_theta", "factor"}
REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
OPTIONAL = ("num_key_value_heads", "head_dim")  # sizes that null leaves to the default


def load_config(model: Path) -> ModelConfig:
    """Reads the model's config.json.

    Raises:
        ConfigError: no such file, another architecture, or a value out of range.
    """
    if not model.is_dir():
        raise ConfigError(f"no such directory: {model}", next_step="give a checkpoint directory")
    file = model / "config.json"
    if not file.is_file():
        raise ConfigError(f"no config.json in {model}", next_step="give a Hugging Face checkpoint")
    try:
        raw = json.loads(file.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{file} is not a JSON object", got=type(raw).__name__)
    _check_architecture(file, raw)
    try:
        return ModelConfig.model_validate(_fields(file, raw))
    except ValidationError as error:
        raise ConfigError(f"{file}: {first_problem(error)}") from error


def _check_architecture(file: Path, raw: dict[str, Any]) -> None:
    architectures = raw.get("architectures", [])
    if architectures != [ARCHITECTURE]:
        raise ConfigError(
            f"{file}: architectures", got=architectures, allowed=f"['{ARCHITECTURE}']"
        )
    for key, value in FIXED.items():
        if raw.get(key, value) != value:
            raise ConfigError(f"{file}: {key}", got=str(raw[key]), allowed=str(value))


def _fields(file: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """Config values with the defaults that transformers' LlamaConfig gives."""
    for key in REQUIRED:
        if key not in raw:
            raise ConfigError(f"{file} lacks {key}")
    optional = [key for key in OPTIONAL if raw.get(key) is not None]
    for key in (*REQUIRED, *optional):  # divided below, so they must be numbers already
        if type(raw[key]) is not int or raw[key] <= 0:
            raise ConfigError(
                f"{file}: {key}", got=repr(raw[key]), allowed="a whole number above 0"
            )
    heads, hidden = raw["num_attention_heads"], raw["hidden_size"]
    kv_heads = raw.get("num_key_value_heads") or heads
    head_dim = raw.get("head_dim") or hidden // heads
    if heads % kv_heads:
        raise ConfigError(
            f"{file}: num_key_value_heads", got=kv_heads, allowed=f"a divisor of {heads}"
        )
    if head_dim % 2:
        raise ConfigError(f"{file}: head_dim", got=head_dim, allowed="an even number")
    theta, factor = _rope(file, raw)
    return {
        **{key: raw[key] for key in REQUIRED},
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": raw.get("max_position_embeddings", 2048),
        "rms_norm_eps": raw.get("rms_norm_eps", 1e-6),
        "rope_theta": theta,
        "rope_scaling_factor": factor,
        "tie_word_embeddings": raw.get("tie_word_embeddings", False),
    }


def _rope(file: Path, raw: dict[str, Any]) -> tuple[Any, Any]:
    """Theta and linear factor from rope_scaling (transformers 4) or rope_parameters (5)."""
    scaling = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if not isinstance(scaling, dict):
        raise ConfigError(f"{file}: rope scaling", got=repr(scaling), allowed="an object")
    theta = scaling.get("rope_theta", raw.get("rope_theta", 10000.0))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear"):
        raise ConfigError(f"{file}: rope scaling type", got=kind, allowed="default, linear")
    for key in sorted(set(scaling) - ROPE_KEYS):
        raise ConfigError(f"{file}: rope setting {key}", allowed=", ".join(sorted(ROPE_KEYS)))
    return theta, scaling.get("factor") if kind == "linear" else 1.0


def num_positions(config: ModelConfig) -> int:
    """Positions that the model has; linear scaling packs more of them into the trained range."""
    return int(config.max_position_embeddings * config.rope_scaling_factor)


def check_context(config: ModelConfig, profile: Profile) -> None:
    """Refuses a profile that caches more than the model was trained for.

    Raises:
        ConfigError: naming both numbers.
    """
    longest = profile.cache_len
    positions = num_positions(config)
    if longest > positions:
        raise ConfigError(
            f"profile {profile.name} caches more positions than the model has",
            got=longest,
            allowed=f"up to {positions}",
            next_step="lower cache_len in the profile",
        )
