"""A LoRA adapter of PEFT, merged into its base while the base is read: W + scaling B A.

Only the rows in hand are merged, in float32, so that there is no second copy of the model.
Formula: Hu et al., LoRA (arXiv 2106.09685), section 4.1; PEFT's LoraLayer.get_delta_weight.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from export.checkpoint import CHUNK_ELEMENTS, Checkpoint, check_tensor, open_checkpoint
from export.errors import CheckpointError
from export.lora_settings import LoraSettings, read_lora
from export.packing import read_packing
from export.parameters import EMBEDDING, LM_HEAD, expected_shapes, hf_name
from export.tensor_file import StoredTensor, TensorFile, open_tensors
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.reader import TOKENIZER

__all__ = ["Adapter", "MergedCheckpoint", "open_adapter", "open_weights"]

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
# Names with and without the adapter's own, "default", which PEFT leaves out when it saves.
FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])(\.default)?\.weight")
# The base of a head that has factors is saved beside them.
WHOLE = re.compile(r"(?P<module>.+?)(\.modules_to_save|\.base_layer)?(\.default)?\.weight")
OTHER_BASE = "give the base that the adapter was trained on"


@dataclass(frozen=True, slots=True)
class LowRank:
    """What is added to a weight (N, K): scaling times b (N, r) times a (r, K)."""

    a: StoredTensor
    b: StoredTensor
    scaling: float

    def merged(self, weight_NK: Tensor) -> Iterator[Tensor]:
        """The next rows of the sum, float32, to the last."""
        a, b = self.a.read().float(), self.b.read().float()
        step = max(1, CHUNK_ELEMENTS // weight_NK.shape[1])
        for rows, factors in zip(torch.split(weight_NK, step), torch.split(b, step), strict=True):
            yield rows.float() + self.scaling * (factors @ a)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter that fits a base.

    base, merged: the config of the base, and with the adapter's vocabulary.
    whole, low_rank: what stands in the place of a tensor, and what is then added to it, by the
        checkpoint's names.
    weights: the file of both.
    """

    directory: Path
    base: ModelConfig
    merged: ModelConfig
    whole: dict[str, StoredTensor]
    low_rank: dict[str, LowRank]
    weights: Path

    def tokenizer_directory(self, model: Path) -> Path:
        """Where the tokenizer of the merged model lies."""
        return model if self.merged.vocab_size == self.base.vocab_size else self.directory


class MergedCheckpoint:
    """The tensors of a base with an adapter, by the decoder's parameter names.

    Raises:
        CheckpointError: the base's weights cannot be read.
    """

    def __init__(self, model: Path, adapter: Adapter) -> None:
        self._base = open_checkpoint(model, adapter.base)
        self._adapter = adapter

    def chunks(self, parameter: str) -> Iterator[Tensor]:
        """The elements of a decoder parameter in order."""
        low_rank = self._adapter.low_rank.get(hf_name(parameter))
        weight = self._without_factors(parameter)
        if low_rank is None:
            yield from torch.split(weight.flatten(), CHUNK_ELEMENTS)
        else:
            yield from (rows.flatten() for rows in low_rank.merged(weight))

    def tensor(self, parameter: str) -> Tensor:
        """A decoder parameter; float32 where something was added to it."""
        low_rank = self._adapter.low_rank.get(hf_name(parameter))
        weight = self._without_factors(parameter)
        return weight if low_rank is None else torch.cat(list(low_rank.merged(weight)))

    def _without_factors(self, parameter: str) -> Tensor:
        whole = self._adapter.whole.get(hf_name(parameter))
        return self._base.tensor(parameter) if whole is None else whole.read()


def open_weights(
    model: Path, config: ModelConfig, adapter: Adapter | None
) -> Checkpoint | MergedCheckpoint:
    """The weights of a model directory, with an adapter merged where there is one.

    Raises:
        CheckpointError: as open_checkpoint; or an adapter for weights that are quantised already.
    """
    if adapter is None:
        return open_checkpoint(model, config)
    packing = read_packing(model)
    if packing is not None:
        raise CheckpointError(
            f"an adapter cannot be merged into the levels of {model}",
            got=str(packing),
            next_step="give the base as it was before quantisation",
        )
    return MergedCheckpoint(model, adapter)


def open_adapter(directory: Path, base: ModelConfig) -> Adapter:
    """Opens an adapter and checks its names, shapes and types against its base, in both directions.

    Raises:
        ConfigError: not a LoRA that can be merged here.
        CheckpointError: tensors that are missing, unexpected, or of another model's shape.
    """
    settings = read_lora(directory)
    file = _weights(directory)
    factors, whole = _sort(file, open_tensors(file))
    merged = _with_vocabulary(directory, base, whole)
    shapes = expected_shapes(merged)
    linears = {
        name.removesuffix(".weight")
        for name, shape in shapes.items()
        if len(shape) == 2 and name != EMBEDDING
    }
    _check_names(file, settings, base, (set(factors), set(whole)), linears)
    low_rank = {
        f"{module}.weight": _low_rank(file, settings, module, pair, shapes[f"{module}.weight"])
        for module, pair in factors.items()
    }
    for module, tensor in whole.items():
        check_tensor(f"{module} of {file}", tensor, shapes[f"{module}.weight"])
    return Adapter(
        directory=directory,
        base=base,
        merged=merged,
        low_rank=low_rank,
        whole={f"{module}.weight": tensor for module, tensor in whole.items()},
        weights=file,
    )


def _weights(directory: Path) -> Path:
    for name in WEIGHTS:
        if (directory / name).exists():
            return directory / name
    raise CheckpointError(
        f"no weights of an adapter in {directory}", allowed=f"one of {', '.join(WEIGHTS)}"
    )


def _sort(
    file: Path, stored: TensorFile
) -> tuple[dict[str, dict[str, StoredTensor]], dict[str, StoredTensor]]:
    """Factors and whole tensors by the names of their modules in the base."""
    factors: dict[str, dict[str, StoredTensor]] = {}
    whole: dict[str, StoredTensor] = {}
    for key, tensor in stored.tensors.items():
        name = key.removeprefix(PREFIX)
        if factor := FACTOR.fullmatch(name):
            factors.setdefault(factor["module"], {})[factor["factor"]] = tensor
        elif "lora_" not in name and (found := WHOLE.fullmatch(name)):
            whole[found["module"]] = tensor
        else:
            raise _unexpected(file, key, tensor)
    return factors, whole


def _unexpected(file: Path, name: str, tensor: StoredTensor) -> CheckpointError:
    return CheckpointError(
        f"{file} has a tensor that cannot be merged into this base",
        got=f"{name} {tensor.shape}",
        allowed="lora_A and lora_B of linear layers, and whole modules of modules_to_save",
        next_step=OTHER_BASE,
    )


def _with_vocabulary(
    directory: Path, base: ModelConfig, whole: dict[str, StoredTensor]
) -> ModelConfig:
    """The base's config with as many tokens as the adapter's embedding and head have rows."""
    names = [name.removesuffix(".weight") for name in (EMBEDDING, LM_HEAD)]
    rows = [whole[name].shape[0] for name in names if name in whole and whole[name].shape]
    grown = [number for number in rows if number != base.vocab_size]
    if not grown:
        return base
    if len(set(rows)) > 1 or len(rows) < 2:
        raise CheckpointError(
            f"the adapter in {directory} changes the vocabulary of its embedding or head alone",
            got=f"{grown[0]} rows beside {base.vocab_size}",
            allowed=f"the same number for {' and '.join(names)}",
            next_step=OTHER_BASE,
        )
    if not (directory / TOKENIZER).exists():
        raise CheckpointError(
            f"no {TOKENIZER} in {directory}, whose vocabulary is not its base's",
            got=f"{grown[0]} rows for {base.vocab_size} of the base",
            next_step=f"copy the adapter's {TOKENIZER} there",
        )
    return base.model_copy(update={"vocab_size": grown[0]})


def _check_names(
    file: Path,
    settings: LoraSettings,
    base: ModelConfig,
    found: tuple[set[str], set[str]],
    linears: set[str],
) -> None:
    """Every tensor has its place in the base, and every place that the settings name a tensor."""
    factors, whole = found
    modules = {name.removesuffix(".weight") for name in expected_shapes(base)}
    outer = {name.removesuffix(".weight") for name in (EMBEDDING, LM_HEAD)}
    allowed = {module for module in modules if settings.saves(module) or module in outer}
    stray = sorted(factors - linears) + sorted(whole - allowed)
    missing = sorted(
        {module for module in linears if settings.targets(module)} - factors - whole
        | {module for module in modules if settings.saves(module)} - whole
    )
    problem, names = ("tensors of modules that are not in its settings or its base", stray)
    if not stray:
        problem, names = ("no tensors of modules that its settings name", missing)
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise CheckpointError(
            f"{file} has {problem}", got=f"{', '.join(names[:3])}{more}", next_step=OTHER_BASE
        )
    if not factors | whole:
        raise CheckpointError(f"{file} has no tensors", next_step="copy or download it again")
    if base.tie_word_embeddings and (factors | whole) & outer:
        raise CheckpointError(
            f"{file} changes the embedding or the head of a base whose config.json ties them",
            got=", ".join(sorted((factors | whole) & outer)),
            next_step="merge it with PEFT's merge_and_unload, and export that",
        )


def _low_rank(
    file: Path,
    settings: LoraSettings,
    module: str,
    pair: dict[str, StoredTensor],
    shape: tuple[int, ...],
) -> LowRank:
    rank = settings.rank(module)
    shapes = {"A": (rank, shape[1]), "B": (shape[0], rank)}
    for factor, allowed in shapes.items():
        if factor not in pair:
            raise CheckpointError(
                f"{file} lacks lora_{factor} of {module}", next_step="copy or download it again"
            )
        check_tensor(f"{module}.lora_{factor} of {file}", pair[factor], allowed)
    return LowRank(pair["A"], pair["B"], settings.scaling(module))
