"""An adapter in the place of a model, or beside one: refused, so that it is never passed over."""

from pathlib import Path
from typing import Any

from export.errors import ConfigError
from runtime.json_file import read_object

__all__ = ["ADAPTER_CONFIG", "BASE", "refuse_adapter"]

ADAPTER_CONFIG = "adapter_config.json"
FILES = ("adapter_config", "adapter_model")  # how the names of its files begin
BASE = "base_model_name_or_path"
LORA = ("LORA", "PEFT")  # kinds that --lora may take; the second is not told
NAMES = {"LORA": "LoRA"}  # of peft_type, where people write it in another way
APART = (
    "give the base as MODEL and the adapter with --lora, in a directory of its own; or take the "
    "adapter's files away to have the base alone"
)
MERGE = (
    "merge it into its base with PEFT's merge_and_unload and save that, or take the adapter's "
    "files away to have the base alone"
)


def refuse_adapter(model: Path) -> None:
    """Refuses a directory that holds an adapter.

    Raises:
        ConfigError: naming its kind and its base.
    """
    present = sorted(file.name for file in model.iterdir() if file.name.startswith(FILES))
    if not present:
        return
    file = model / ADAPTER_CONFIG
    settings = read_object(file, ConfigError) if file.is_file() else {}
    kind, base = _text(settings, "peft_type", "PEFT"), _text(settings, BASE, "an unknown base")
    where = "beside its weights" if (model / "config.json").is_file() else "and no model"
    raise ConfigError(
        f"{model} holds a {NAMES.get(kind, kind)} adapter of {base} {where}",
        got=", ".join(present),
        next_step=APART if kind in LORA else MERGE,
    )


def _text(settings: dict[str, Any], key: str, default: str) -> str:
    value = settings.get(key)
    return value[:100] if isinstance(value, str) and value else default
