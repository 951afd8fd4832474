"""How a checkpoint's linear layers are quantised: GPTQ or AWQ, as its settings say.

Sources: the QuantLinear of AutoGPTQ and GPTQModel (their `checkpoint_format` gptq and gptq_v2), and
the WQLinear_GEMM of AutoAWQ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import ConfigError
from runtime.bundle.manifest import FileEntry
from runtime.bundle.reader import GRAPHS_DIR, WEIGHTS_DIR
from runtime.json_file import read_object

__all__ = [
    "BEFORE",
    "PLACE",
    "Packing",
    "level_names",
    "packed_weights",
    "read_packing",
    "stored_group_size",
]

QUANTIZATION = "quantization_config"  # the key of config.json
GPTQ_SETTINGS = "quantize_config.json"  # where older checkpoints of GPTQ have it

GROUP_SIZES = (32, 64, 128)
# By method: keys with the values that are taken. An absent key has the first of them.
TAKEN: dict[str, dict[str, tuple[object, ...]]] = {
    "gptq": {
        "bits": (4,),
        "group_size": GROUP_SIZES,
        "desc_act": (False, None),  # columns in the order of the activations
        "sym": (True, False),
        "checkpoint_format": ("gptq", "gptq_v2", None),
        "pack_dtype": ("int32", None),
        "is_marlin_format": (False, None),
        "lm_head": (False, None),
        "dynamic": (None, {}),  # other settings for some layers
    },
    "awq": {
        "bits": (4,),
        "group_size": GROUP_SIZES,
        "zero_point": (True,),
        "version": ("gemm", "GEMM", None),
        "modules_to_not_convert": (None, [], ["lm_head"]),
    },
}
PLACE = f"{GRAPHS_DIR}/{WEIGHTS_DIR}/"  # of weights in a bundle
NEEDED = ("bits", "group_size", "zero_point")
BEFORE = "give the checkpoint before quantisation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Levels of 4 bits in int32, with a scale and a zero point for each group of inputs.

    zero_offset: what is added to a zero point as it is stored.
    symmetric: whether every zero point is 8.
    """

    method: str
    group_size: int
    zero_offset: int
    symmetric: bool

    def __str__(self) -> str:
        return f"{self.method}, a scale for {self.group_size} inputs"


def read_packing(model: Path) -> Packing | None:
    """How the weights of a checkpoint are packed; None where they are plain numbers.

    Raises:
        ConfigError: another method, or a setting that its levels cannot be taken with.
    """
    where, settings = _settings(model)
    if settings is None:
        return None
    if not isinstance(settings, dict) or settings.get("quant_method") not in TAKEN:
        raise ConfigError(
            where,
            got=str(settings),
            allowed=f"quant_method {' or '.join(TAKEN)}",
            next_step=BEFORE,
        )
    method: str = settings["quant_method"]
    for key, allowed in TAKEN[method].items():
        value = settings.get(key, None if key in NEEDED else allowed[0])
        if type(value) not in map(type, allowed) or value not in allowed:
            raise ConfigError(
                f"{where}: {key} of {method}",
                got=str(value),
                allowed=" or ".join(str(each) for each in allowed if each is not None) or "none",
                next_step=BEFORE,
            )
    is_first = method == "gptq" and settings.get("checkpoint_format") != "gptq_v2"
    return Packing(
        method=method,
        group_size=settings["group_size"],
        zero_offset=1 if is_first else 0,
        symmetric=method == "gptq" and settings.get("sym", True),
    )


def _settings(model: Path) -> tuple[str, Any]:
    """Where the settings of quantisation stand, and what they are."""
    config, older = model / "config.json", model / GPTQ_SETTINGS
    settings = read_object(config, ConfigError).get(QUANTIZATION) if config.is_file() else None
    if settings is None and older.is_file():
        return str(older), {"quant_method": "gptq", **read_object(older, ConfigError)}
    return f"{config}: {QUANTIZATION}", settings


def level_names(weight: str, symmetric: bool) -> tuple[str, ...]:
    """What lies beside a weight in an exported bundle; zero points where they vary."""
    names = (f"{weight}.levels", f"{weight}.scales", f"{weight}.zero_points")
    return names[:2] if symmetric else names


def stored_group_size(files: Mapping[str, FileEntry]) -> int | None:
    """Inputs that share a scale in an exported bundle's levels; None where it has none."""
    for weight in packed_weights(files):
        levels, scales = (files[f"{PLACE}{name}"] for name in level_names(weight, symmetric=True))
        return 2 * levels.size // (scales.size // 2)  # float16
    return None


def packed_weights(files: Mapping[str, FileEntry]) -> list[str]:
    """The weights of an exported bundle that levels lie beside."""
    suffix = ".levels"
    names = (name for name in files if name.startswith(PLACE) and name.endswith(suffix))
    return [name.removeprefix(PLACE).removesuffix(suffix) for name in names]
