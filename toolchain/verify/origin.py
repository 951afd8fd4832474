"""Whether bundles were made from a checkpoint, as far as sizes and the tokenizer tell."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from export.lora import Adapter
from export.tokenizer_files import TokenizerFiles, read_tokenizer
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.reader import TEXT_FILES, Bundle
from toolchain.errors import TargetError

__all__ = ["check_origin"]

SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)


def check_origin(
    bundles: Sequence[Bundle], model: Path, config: ModelConfig, adapter: Adapter | None = None
) -> None:
    """Refuses a bundle that another checkpoint made.

    Raises:
        TargetError: another size, another tokenizer, or an adapter on one side alone.
        CheckpointError: the checkpoint's tokenizer is not its model's.
    """
    for bundle in bundles:
        _check_adapter(bundle, adapter)
    place = model if adapter is None else adapter.tokenizer_directory(model)
    tokenizer = read_tokenizer(place, config)
    for bundle in bundles:
        _check_sizes(bundle, model, config)
        _check_tokenizer(bundle, place, tokenizer)


def _check_adapter(bundle: Bundle, adapter: Adapter | None) -> None:
    merged = bundle.manifest.provenance.options.get("lora")
    if (merged is None) != (adapter is None):
        raise TargetError(
            f"{bundle.path} was made {'without' if merged is None else 'with'} an adapter",
            got=f"--lora {adapter.directory}" if adapter else "no --lora",
            allowed="no --lora" if merged is None else f"--lora with the directory of {merged}",
            next_step="compare with what the bundle was made from",
        )


def _check_sizes(bundle: Bundle, model: Path, config: ModelConfig) -> None:
    """What differs otherwise (a rotary base, an epsilon) is for the comparison to find."""
    ours, theirs = bundle.manifest.model.model_dump(), config.model_dump()
    for key in SIZES:
        if ours[key] != theirs[key]:
            raise TargetError(
                f"{bundle.path} was not made from {model}: {key}",
                got=ours[key],
                allowed=str(theirs[key]),
                next_step="give the checkpoint of this bundle with --model",
            )


def _check_tokenizer(bundle: Bundle, model: Path, tokenizer: TokenizerFiles) -> None:
    """The same ids mean other texts to another tokenizer, which no logits would show."""
    files = bundle.manifest.files
    for name in TEXT_FILES:
        got = files[name].sha256 if name in files else None
        data = tokenizer.files.get(name)
        allowed = hashlib.sha256(data).hexdigest() if data is not None else None
        if got != allowed:
            raise TargetError(
                f"{bundle.path} has another tokenizer than {model}: {name}",
                got=f"sha256 {got}" if got else "no such file",
                allowed=f"sha256 {allowed}" if allowed else "no such file",
                next_step="give the checkpoint of this bundle with --model, or export it again",
            )
