"""Weights on disk -> tensors, one at a time; the name table is checked both ways.

Names, shapes and types are checked when a checkpoint is opened, before any number is read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from export.errors import CheckpointError
from export.foreign_names import is_computed, wrong_names
from export.packed_weights import PackedWeight, unpacked
from export.packing import Packing, read_packing
from export.parameters import EMBEDDING, LM_HEAD, expected_shapes, hf_name
from export.tensor_file import StoredTensor, TensorFile, open_tensors
from export.weight_files import WeightSet, weight_sets
from runtime.bundle.manifest import ModelConfig
from runtime.console import note_once

__all__ = [
    "CHUNK_ELEMENTS",
    "Checkpoint",
    "TensorSource",
    "check_tensor",
    "open_checkpoint",
]

CHUNK_ELEMENTS = 1 << 20  # 2 MB in float16: what one thread holds of a tensor
# float8 is a floating point too, but means nothing without its scales.
DTYPES = ("float16", "bfloat16", "float32", "float64")


class TensorSource(Protocol):
    """Where `export` takes its weights from."""

    def chunks(self, parameter: str) -> Iterator[Tensor]:
        """The elements of a decoder parameter in row-major order, CHUNK_ELEMENTS at a time."""
        ...


class Checkpoint:
    """The tensors of a model by the decoder's parameter names, read when asked for.

    Raises:
        CheckpointError: names that do not fit the config, another shape or type than it promises.

    Attributes:
        packed: weights of linear layers that GPTQ or AWQ made, by parameter.
    """

    def __init__(
        self, config: ModelConfig, stored: TensorFile, packing: Packing | None = None
    ) -> None:
        self.packed: dict[str, PackedWeight] = {}
        if packing is not None:
            stored, packed = unpacked(stored, packing, expected_shapes(config))
            self.packed = {name.removeprefix("model."): each for name, each in packed.items()}
        names = _check_names(config, stored)
        self._tensors = {name: stored.tensors[source] for name, source in names.items()}
        for name, shape in expected_shapes(config).items():
            check_tensor(name, self._tensors[name], shape)
        if config.tie_word_embeddings and names[LM_HEAD] != names[EMBEDDING]:
            self._check_tied()

    def chunks(self, parameter: str) -> Iterator[Tensor]:
        """The elements of a decoder parameter in order."""
        yield from torch.split(self.tensor(parameter).flatten(), CHUNK_ELEMENTS)

    def tensor(self, parameter: str) -> Tensor:
        """A decoder parameter, for example layers.0.mlp.up_proj.weight, as it is stored."""
        return self._tensors[hf_name(parameter)].read()

    def differs_from(self, other: "Checkpoint") -> str | None:
        """The first parameter that is another number in float16, or None."""
        for name in self._tensors:
            parameter = name.removeprefix("model.")
            for ours, theirs in zip(self.chunks(parameter), other.chunks(parameter), strict=True):
                if not torch.equal(ours.to(torch.float16), theirs.to(torch.float16)):
                    return name
        return None

    def _check_tied(self) -> None:
        head, embedding = self.tensor(LM_HEAD), self._tensors[EMBEDDING].read()
        if not torch.equal(head.float(), embedding.float()):
            raise CheckpointError(
                f"tensor {LM_HEAD} is not {EMBEDDING}, although config.json ties them",
                next_step="set tie_word_embeddings to false in config.json",
            )


def _check_names(config: ModelConfig, stored: TensorFile) -> dict[str, str]:
    """Table from expected to stored name; missing and unexpected names are errors."""
    there = stored.tensors
    table = {name: _stored_name(name, stored) for name in expected_shapes(config)}
    if config.tie_word_embeddings:  # either may stand for both
        for name, twin in ((LM_HEAD, EMBEDDING), (EMBEDDING, LM_HEAD)):
            table[name] = name if name in there else table[twin]
    missing = sorted(name for name, source in table.items() if source not in there)
    extra = [name for name in set(there) - set(table) if not is_computed(name)]
    if missing or extra:
        raise wrong_names(missing, extra)
    return table


def _stored_name(name: str, stored: TensorFile) -> str:
    """The name that the numbers of a tensor are stored under."""
    return name if name in stored.tensors else stored.aliases.get(name, name)


def check_tensor(name: str, tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    """Refuses what is no plain tensor of numbers in a shape.

    Raises:
        CheckpointError: naming what it is instead.
    """
    if tensor.oddity:
        raise CheckpointError(
            f"tensor {name} is {tensor.oddity}", next_step="save it as a plain tensor"
        )
    if tensor.dtype not in DTYPES:
        raise CheckpointError(
            f"tensor {name}",
            got=tensor.dtype,
            allowed=", ".join(DTYPES),
            next_step="give the checkpoint before quantisation",
        )
    if tensor.shape != shape:
        raise CheckpointError(f"tensor {name}", got=tensor.shape, allowed=str(shape))


def open_checkpoint(model: Path, config: ModelConfig) -> Checkpoint:
    """Opens the weights of a model directory and checks them against the config.

    Raises:
        CheckpointError: no weights, a truncated or unsafe shard, tensors that do not fit, or two
            sets of weights that differ.
    """
    chosen, *others = weight_sets(model)
    packing = read_packing(model)
    checkpoint = Checkpoint(config, _open_set(chosen), packing)
    for other in others:
        note_once(f"{model}: comparing {chosen.name} with {other.name}, which holds weights too")
        _refuse_difference(model, config, checkpoint, (chosen, other), packing)
    return checkpoint


def _open_set(weights: WeightSet) -> TensorFile:
    """All tensors of a set; of those that several shards hold, the one that the index names."""
    opened = {file.name: open_tensors(file) for file in weights.files}
    shards: dict[str, list[str]] = {}
    for shard_name, shard in opened.items():
        for name in shard.tensors:
            shards.setdefault(name, []).append(shard_name)
    tensors: dict[str, StoredTensor] = {}
    for name, [first, *more] in shards.items():
        listed = weights.weight_map.get(name, first)
        if more and name not in weights.weight_map and not is_computed(name):
            raise CheckpointError(
                f"several shards of {weights.name} hold {name}", got=", ".join([first, *more])
            )
        tensors[name] = opened[listed if listed in more else first].tensors[name]
    aliases = {name: twin for shard in opened.values() for name, twin in shard.aliases.items()}
    return TensorFile(tensors=tensors, aliases=aliases)


def _refuse_difference(
    model: Path,
    config: ModelConfig,
    checkpoint: Checkpoint,
    sets: tuple[WeightSet, WeightSet],
    packing: Packing | None,
) -> None:
    """Refuses a second set that is readable and not the same model."""
    chosen, other = sets
    try:
        stored = _open_set(other)
    except CheckpointError as error:
        note_once(f"{model / other.name} is not read: {error}")
        return
    try:
        difference = checkpoint.differs_from(Checkpoint(config, stored, packing))
    except CheckpointError as error:
        difference = str(error)
    if difference is not None:
        raise CheckpointError(
            f"{model} holds two sets of weights that differ: {chosen.name} and {other.name}",
            got=difference,
            next_step="remove the one that is not the model",
        )
