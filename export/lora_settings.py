"""adapter_config.json of PEFT -> how an adapter is scaled, or why it is not a plain LoRA. No torch.

PEFT's patterns may be regular expressions; only names are taken here.
"""

import math
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from export.adapter import ADAPTER_CONFIG, BASE
from export.errors import ConfigError
from runtime.json_file import read_object
from runtime.record import Record, first_problem

__all__ = ["LoraSettings", "read_lora"]

# Keys that change what an adapter computes, with the only values that are merged here. An absent
# key has the first of them.
FIXED: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False, None),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    # Other beginnings change the base too, and then another base belongs to the adapter.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
    "layers_pattern": (None, "layers", ["layers"], []),
}
HARMLESS = {
    BASE,
    "auto_mapping",
    "corda_config",  # how training began, as the next ones
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
NEUTRAL: tuple[object, ...] = (
    None,
    False,
    [],
    {},
)  # values of a key that is not known which change nothing
NAME = re.compile(r"\^?[\w.]+")  # what a pattern may be
MERGE = "merge it into its base with PEFT's merge_and_unload, and export that"

T = TypeVar("T")
Rank = Annotated[int, Field(ge=1, le=100_000)]
Alpha = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class LoraSettings(Record):
    """What is read of adapter_config.json; the field names are its keys."""

    r: Rank
    lora_alpha: Alpha
    use_rslora: bool = False
    target_modules: list[str] | str = Field(default=[])
    exclude_modules: list[str] = Field(default=[])
    layers_to_transform: list[int] | int | None = None
    rank_pattern: dict[str, Rank] = Field(default={})
    alpha_pattern: dict[str, Alpha] = Field(default={})
    modules_to_save: list[str] = Field(default=[])

    def rank(self, module: str) -> int:
        """The rank of a module, for example model.layers.0.mlp.up_proj."""
        return _of_pattern(self.rank_pattern, module, self.r)

    def scaling(self, module: str) -> float:
        """What its product B A is multiplied by: alpha / r, or alpha / sqrt(r) of rsLoRA."""
        rank = self.rank(module)
        alpha = _of_pattern(self.alpha_pattern, module, self.lora_alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def targets(self, module: str) -> bool:
        """Whether a linear layer must have factors; not known where a pattern says which."""
        if isinstance(self.target_modules, str):
            return False
        layers = self.layers_to_transform
        if layers is not None:
            layer = re.search(r"\.layers\.(\d+)\.", module)
            wanted = [layers] if isinstance(layers, int) else layers
            if layer is None or int(layer[1]) not in wanted:
                return False
        named = any(_is_named(module, name) for name in self.target_modules)
        return named and not any(_is_named(module, name) for name in self.exclude_modules)

    def saves(self, module: str) -> bool:
        """Whether a module must be there as a whole; PEFT compares how its name ends."""
        return any(module.endswith(name) for name in self.modules_to_save)


def read_lora(adapter: Path) -> LoraSettings:
    """Reads the settings of an adapter's directory.

    Raises:
        ConfigError: no such file, another kind of adapter, or a setting that is not merged here.
    """
    file = adapter / ADAPTER_CONFIG
    if not file.is_file():
        raise ConfigError(
            f"no {ADAPTER_CONFIG} in {adapter}", next_step="give the directory of a PEFT adapter"
        )
    raw = read_object(file, ConfigError)
    for key, allowed in FIXED.items():
        if raw.get(key, allowed[0]) not in allowed:
            raise _refused(file, key, raw[key], str(allowed[0]))
    known = {*FIXED, *HARMLESS, *LoraSettings.model_fields}
    for key in sorted(set(raw) - known):
        if raw[key] not in NEUTRAL:
            raise _refused(file, key, raw[key], "no such key")
    given = {key: raw[key] for key in LoraSettings.model_fields if raw.get(key) is not None}
    try:
        settings = LoraSettings.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"{file}: {first_problem(error)}", next_step=MERGE) from error
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(settings, key):
            if NAME.fullmatch(pattern) is None:
                raise _refused(file, key, pattern, "names of modules")
    return settings


def _refused(file: Path, key: str, got: Any, allowed: str) -> ConfigError:
    return ConfigError(f"{file}: {key}", got=repr(got)[:100], allowed=allowed, next_step=MERGE)


def _is_named(module: str, name: str) -> bool:
    if name.startswith("^"):
        return module == name[1:]
    return module == name or module.endswith(f".{name}")


def _of_pattern(patterns: dict[str, T], module: str, default: T) -> T:
    return next((value for key, value in patterns.items() if _is_named(module, key)), default)
