"""How a model's positions are scaled: what config.json says of it, or the option --rope instead.

Both generations of config.json are read: `rope_scaling` with `type` or `rope_type`, and
`rope_parameters` of transformers 5.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from export.config_keys import ROPE_FIXED, ROPE_HARMLESS
from export.errors import ConfigError
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.rope import DynamicRope, LinearRope, NtkRope, RopeScaling, YarnRope
from runtime.record import first_problem

__all__ = ["ROPE_FORMS", "fitting_alpha", "num_positions", "read_rope", "with_rope"]

SCALING: TypeAdapter[RopeScaling] = TypeAdapter(RopeScaling)
IN_CONFIG = ("linear", "dynamic", "yarn", "llama3")
ROPE_FORMS = "ntk:ALPHA, ntk:auto, linear:FACTOR, yarn:FACTOR"
LENGTH = "original_max_position_embeddings"
OF_YARN = {"mscale", "mscale_all_dim"}  # what its attention factor is made of


def read_rope(file: Path, raw: dict[str, Any]) -> tuple[Any, RopeScaling | None]:
    """Theta and scaling of a config.json.

    Raises:
        ConfigError: another kind, or a setting that is missing, unknown or out of its range.
    """
    given = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if not isinstance(given, dict):
        raise ConfigError(f"{file}: rope scaling", got=repr(given), allowed="an object")
    theta = given.get("rope_theta", raw.get("rope_theta", 10000.0))
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ("default", *IN_CONFIG):
        allowed = ", ".join(("default", *IN_CONFIG))
        raise ConfigError(f"{file}: rope scaling type", got=kind, allowed=allowed)
    for key, allowed_values in ROPE_FIXED.items():
        if given.get(key, allowed_values[0]) not in allowed_values:
            raise ConfigError(
                f"{file}: rope setting: {key}", got=str(given[key]), allowed=str(allowed_values[0])
            )
    known = {"rope_theta", "rope_type", "type", *ROPE_FIXED, *ROPE_HARMLESS}
    settings = {key: value for key, value in given.items() if key not in known}
    if kind == "default":
        _refuse_settings(file, settings)
        return theta, None
    if kind in ("yarn", "llama3") and raw.get(LENGTH) is not None:
        settings[LENGTH] = raw[LENGTH]  # transformers prefers the one outside
    if kind not in ("yarn", "llama3"):
        settings.pop(LENGTH, None)  # says what factor and length say already
    if kind == "yarn":
        settings = _with_attention_factor(settings)
    return theta, _scaling(f"{file}: rope scaling", {"rope_type": kind, **settings})


def _refuse_settings(file: Path, settings: dict[str, Any]) -> None:
    for key in sorted(set(settings) - {LENGTH, "factor"}):
        raise ConfigError(f"{file}: rope setting {key}", allowed="factor, rope_theta, rope_type")


def _scaling(where: str, settings: dict[str, Any]) -> RopeScaling:
    try:
        return SCALING.validate_python(settings)
    except ValidationError as error:
        problem = first_problem(error).removeprefix(f"{settings['rope_type']}.")
        raise ConfigError(f"{where}: {problem}") from error


def _with_attention_factor(settings: dict[str, Any]) -> dict[str, Any]:
    """YaRN's settings with the factor of cosines and sines, which mostly follows from others."""
    kept = {key: v for key, v in settings.items() if key not in OF_YARN and v is not None}
    factor = kept.get("factor")
    if "attention_factor" not in kept and type(factor) in (int, float):
        scales = [settings.get(name) for name in ("mscale", "mscale_all_dim")]
        if all(scales):
            kept["attention_factor"] = _mscale(factor, scales[0]) / _mscale(factor, scales[1])
        else:
            kept["attention_factor"] = _mscale(factor, 1.0)
    return kept


def _mscale(factor: Any, scale: Any) -> float:
    """Equation 22 of arXiv:2309.00071, with the scale of DeepSeek."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def num_positions(config: ModelConfig) -> int:
    """Positions that the model has.

    Some config.json count the positions before linear scaling, some after it, and nothing tells
    which: the fewer are the ones that the model has for certain. Within a sliding window a row sees
    all rows before it, so that a graph without one is right up to there.
    """
    window = config.sliding_window
    return _scaled_positions(config) if window is None else min(_scaled_positions(config), window)


def _scaled_positions(config: ModelConfig) -> int:
    scaling, positions = config.rope_scaling, config.max_position_embeddings
    if isinstance(scaling, LinearRope):
        return min(positions, int(positions * scaling.factor))
    if isinstance(scaling, YarnRope):
        return int(scaling.original_max_position_embeddings * scaling.factor)
    return positions


def fitting_alpha(config: ModelConfig, cache_len: int) -> float:
    """NTK's alpha for a context: the rule `auto` of Chinese-LLaMA-Alpaca-2.

    scripts/attn_and_long_ctx_patches.py there: length / (trained length / 2) - 1.
    """
    return max(1.0, 2 * cache_len / num_positions(config) - 1)


def with_rope(config: ModelConfig, text: str | None, cache_len: int) -> ModelConfig:
    """The config with another scaling of its positions, and as many positions as that gives.

    Args:
        config: as config.json has it.
        text: one of ROPE_FORMS; None leaves the config as it is.
        cache_len: rows that will be cached, for ntk:auto.

    Raises:
        ConfigError: another text, or a scaling over one of the config's that it cannot replace.
    """
    if text is None:
        return config
    kind, _, number = text.partition(":")
    if kind not in OPTIONS:
        raise ConfigError("--rope", got=repr(text), allowed=ROPE_FORMS)
    if (kind, number) == ("ntk", "auto"):
        return _ntk(config, fitting_alpha(config, cache_len))
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 1 <= value <= 1000:
        allowed = f"{ROPE_FORMS}, where numbers are from 1 to 1000"
        raise ConfigError("--rope", got=repr(text), allowed=allowed)
    return OPTIONS[kind](config, value)


def _ntk(config: ModelConfig, alpha: float) -> ModelConfig:
    """Beside a linear scaling, as the scripts do it for the 16K model."""
    scaling = config.rope_scaling
    if not isinstance(scaling, LinearRope | DynamicRope | None):
        raise _cannot_replace("ntk", scaling)
    factor = scaling.factor if isinstance(scaling, LinearRope) else 1.0
    positions = int((alpha + 1) * num_positions(config) / 2)
    return _changed(config, positions, NtkRope(alpha=alpha, factor=factor))


def _linear(config: ModelConfig, factor: float) -> ModelConfig:
    trained = _trained("linear", config)
    return _changed(config, int(trained * factor), LinearRope(factor=factor))


def _yarn(config: ModelConfig, factor: float) -> ModelConfig:
    trained = _trained("yarn", config)
    scaling = YarnRope(
        factor=factor,
        original_max_position_embeddings=trained,
        attention_factor=_mscale(factor, 1.0),
    )
    return _changed(config, int(trained * factor), scaling)


OPTIONS: dict[str, Callable[[ModelConfig, float], ModelConfig]] = {
    "ntk": _ntk,
    "linear": _linear,
    "yarn": _yarn,
}


def _trained(kind: str, config: ModelConfig) -> int:
    """Positions before any scaling."""
    if not isinstance(config.rope_scaling, DynamicRope | None):
        raise _cannot_replace(kind, config.rope_scaling)
    return config.max_position_embeddings


def _cannot_replace(kind: str, scaling: RopeScaling) -> ConfigError:
    return ConfigError(
        f"--rope {kind}: the model was trained with positions scaled in another way",
        got=scaling.rope_type,
        allowed="a model without scaling",
        next_step="leave --rope out",
    )


def _changed(config: ModelConfig, positions: int, scaling: RopeScaling) -> ModelConfig:
    return config.model_copy(update={"max_position_embeddings": positions, "rope_scaling": scaling})
