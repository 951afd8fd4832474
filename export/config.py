"""config.json -> ModelConfig, refusing what the decoder cannot do instead of guessing."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from export.adapter import refuse_adapter
from export.architectures import ARCHITECTURES, Architecture
from export.config_keys import FIXED, KNOWN, SIZES
from export.errors import ConfigError
from export.packing import read_packing
from export.rope_settings import fitting_alpha, num_positions, read_rope, with_rope
from profiles import Profile
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.rope import LinearRope
from runtime.console import note_once
from runtime.json_file import read_object
from runtime.record import first_problem

__all__ = ["CONFIG", "check_context", "load_config", "scaled_config"]

CONFIG = "config.json"
FULL_ATTENTION, SLIDING = "full_attention", "sliding_attention"
WINDOW = "sliding_window"


def load_config(model: Path) -> ModelConfig:
    """Reads the model's config.json.

    Raises:
        ConfigError: no such file, another architecture, or a value out of range; or an adapter
            lies there, which would change the model.
    """
    if not model.is_dir():
        raise ConfigError(f"no such directory: {model}", next_step="give a checkpoint directory")
    refuse_adapter(model)
    file = model / CONFIG
    if not file.is_file() and not file.is_symlink():
        raise ConfigError(f"no {CONFIG} in {model}", next_step="give a Hugging Face checkpoint")
    raw = read_object(file, ConfigError)
    read_packing(model)
    architecture = _architecture(file, raw)
    raw = {**architecture.defaults, **raw}
    try:
        config = ModelConfig.model_validate(_fields(file, raw, architecture))
    except ValidationError as error:
        raise ConfigError(f"{file}: {first_problem(error)}") from error
    _say_what_is_not_certain(file, raw, config)
    return config


def scaled_config(model: Path, rope: str | None, profile: Profile) -> ModelConfig:
    """The config with its positions scaled as `--rope` says, for the cache of a profile.

    Raises:
        ConfigError: as load_config and with_rope.
    """
    return with_rope(load_config(model), rope, profile.cache_len)


def _architecture(file: Path, raw: dict[str, Any]) -> Architecture:
    """The architecture of a config, of which all else is as the decoder has it."""
    names = raw.get("architectures", [])
    if not isinstance(names, list) or len(names) != 1 or names[0] not in ARCHITECTURES:
        allowed = " or ".join(f"['{name}']" for name in ARCHITECTURES)
        raise ConfigError(f"{file}: architectures", got=names, allowed=allowed)
    architecture = ARCHITECTURES[names[0]]
    fixed = {**FIXED, "model_type": (architecture.model_type,)}
    if architecture.sliding_window != "refused":
        del fixed[WINDOW]
    _check_fixed(str(file), raw, fixed)
    layers = raw.get("layer_types") or []
    kinds = {FULL_ATTENTION, *([SLIDING] if architecture.sliding_window == "followed" else [])}
    if not isinstance(layers, list) or any(each not in kinds for each in layers):
        raise ConfigError(f"{file}: layer_types", got=layers, allowed=f"{FULL_ATTENTION} in each")
    return architecture


def _check_fixed(name: str, raw: dict[str, Any], fixed: dict[str, tuple[object, ...]]) -> None:
    for key, allowed in fixed.items():
        if raw.get(key, allowed[0]) not in allowed:
            raise ConfigError(f"{name}: {key}", got=str(raw[key]), allowed=str(allowed[0]))


def _fields(file: Path, raw: dict[str, Any], architecture: Architecture) -> dict[str, Any]:
    """Config values with the defaults that transformers gives."""
    sizes = {key: _size(file, raw, key, required) for key, required in SIZES.items()}
    heads, hidden = sizes["num_attention_heads"], sizes["hidden_size"]
    kv_heads = sizes["num_key_value_heads"] or heads
    head_dim = sizes["head_dim"] or hidden // heads
    if heads % kv_heads:
        raise ConfigError(
            f"{file}: num_key_value_heads", got=kv_heads, allowed=f"a divisor of {heads}"
        )
    if head_dim % 2:
        raise ConfigError(f"{file}: head_dim", got=head_dim, allowed="an even number")
    theta, scaling = read_rope(file, raw)
    return {
        **sizes,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": raw.get("max_position_embeddings", 2048),
        "rms_norm_eps": raw.get("rms_norm_eps", 1e-6),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": raw.get("tie_word_embeddings", False),
        "attention_bias": architecture.attention_bias,
        "qk_norm": architecture.qk_norm,
        "sliding_window": raw[WINDOW] if architecture.sliding_window == "followed" else None,
    }


def _size(file: Path, raw: dict[str, Any], key: str, required: bool) -> int:
    """A size of the model; 0 for one that is left to its default."""
    if key not in raw and required:
        raise ConfigError(f"{file} lacks {key}")
    value = raw.get(key)
    if value is None and not required:
        return 0
    if type(value) is not int or value <= 0:  # divided by its caller
        raise ConfigError(f"{file}: {key}", got=repr(value), allowed="a whole number above 0")
    return value


def _say_what_is_not_certain(file: Path, raw: dict[str, Any], config: ModelConfig) -> None:
    """Keys that are not followed, and a length that can be read in two ways."""
    unknown = sorted(key for key in set(raw) - KNOWN if not key.startswith("_"))
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        note_once(f"{file}: unknown keys are not followed: {', '.join(unknown[:5])}{more}")
    scaling, positions = config.rope_scaling, config.max_position_embeddings
    window = config.sliding_window
    if window is not None and window < positions:
        note_once(
            f"{file}: with a sliding window of {window:,} rows the model has {window:,} positions "
            f"here, not {positions:,}"
        )
    if isinstance(scaling, LinearRope):
        scaled = int(positions * scaling.factor)
        if scaled != positions:
            note_once(
                f"{file}: max_position_embeddings {positions:,} with a linear factor of "
                f"{scaling.factor:g} is taken for {min(positions, scaled):,} positions, not for "
                f"{max(positions, scaled):,}"
            )


def check_context(config: ModelConfig, profile: Profile) -> None:
    """Refuses a profile that caches more than the model was trained for.

    Raises:
        ConfigError: naming both numbers.
    """
    longest = profile.cache_len
    positions = num_positions(config)
    next_step = "lower cache_len in the profile"
    if config.sliding_window != positions:
        alpha = fitting_alpha(config, longest)
        next_step += f", or stretch the positions with --rope ntk:{alpha:.4g}"
    if longest > positions:
        raise ConfigError(
            f"profile {profile.name} caches more positions than the model has",
            got=longest,
            allowed=f"up to {positions}",
            next_step=next_step,
        )
