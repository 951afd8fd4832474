"""Shards on disk -> tensors, one at a time; the name table is checked both ways.

Reads Hugging Face's layouts: `.bin` shards (memory-mapped, weights only: a pickle that would run
code is refused) and safetensors, with an index or as a single file.
"""

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from export.errors import CheckpointError
from export.parameters import EMBEDDING, LM_HEAD, expected_shapes, hf_name
from runtime.bundle.manifest import ModelConfig

__all__ = [
    "CHUNK_ELEMENTS",
    "Checkpoint",
    "TensorSource",
    "open_checkpoint",
]

# Index file and the name of a single file, in order of preference.
LAYOUTS = (
    ("model.safetensors.index.json", "model.safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin"),
)
# Buffers that old checkpoints saved; the decoder computes them.
IGNORED_SUFFIX = ".self_attn.rotary_emb.inv_freq"

CHUNK_ELEMENTS = 1 << 20  # 2 MB in float16: what one thread holds of a tensor

Reader = Callable[[str], Tensor]


class TensorSource(Protocol):
    """Where `export` takes its weights from."""

    def chunks(self, parameter: str) -> Iterator[Tensor]:
        """The elements of a decoder parameter in row-major order, CHUNK_ELEMENTS at a time."""
        ...


class Checkpoint:
    """The tensors of a model by the decoder's parameter names, read when asked for."""

    def __init__(self, config: ModelConfig, readers: Mapping[str, Reader]) -> None:
        self._readers = readers
        self._names = _check_names(config, readers)
        self._shapes = expected_shapes(config)
        if config.tie_word_embeddings and LM_HEAD in readers:
            _check_tied(readers)

    def chunks(self, parameter: str) -> Iterator[Tensor]:
        """The elements of a decoder parameter in order; see `tensor` for what it raises."""
        yield from torch.split(self.tensor(parameter).flatten(), CHUNK_ELEMENTS)

    def tensor(self, parameter: str) -> Tensor:
        """A decoder parameter, for example layers.0.mlp.up_proj.weight, as it is stored.

        Raises:
            CheckpointError: another shape than the config promises, a type that is no floating
                point, or an unreadable shard.
        """
        name = hf_name(parameter)
        tensor = self._readers[self._names[name]](self._names[name])
        if tuple(tensor.shape) != self._shapes[name]:
            raise CheckpointError(
                f"tensor {name}", got=tuple(tensor.shape), allowed=str(self._shapes[name])
            )
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"tensor {name}",
                got=str(tensor.dtype),
                allowed="floating-point types",
                next_step="give the checkpoint before quantisation",
            )
        return tensor


def _check_names(config: ModelConfig, readers: Mapping[str, Reader]) -> dict[str, str]:
    """Table from expected to stored name; missing and unexpected names are errors."""
    table = {name: name for name in expected_shapes(config)}
    if config.tie_word_embeddings:
        table[LM_HEAD] = EMBEDDING
    missing = sorted(set(table.values()) - set(readers))
    extra = sorted(n for n in set(readers) - set(table) if not n.endswith(IGNORED_SUFFIX))
    for names, problem in ((missing, "lacks"), (extra, "has unexpected")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(
                f"the checkpoint {problem} {', '.join(names[:3])}{more}",
                next_step="check that config.json and the shards belong together",
            )
    return table


def _check_tied(readers: Mapping[str, Reader]) -> None:
    head, embedding = readers[LM_HEAD](LM_HEAD), readers[EMBEDDING](EMBEDDING)
    if not torch.equal(head.float(), embedding.float()):
        raise CheckpointError(
            f"tensor {LM_HEAD} is not {EMBEDDING}, although config.json ties them",
            next_step="set tie_word_embeddings to false in config.json",
        )


def open_checkpoint(model: Path, config: ModelConfig) -> Checkpoint:
    """Opens the shards of a model directory and checks their names against the config.

    Raises:
        CheckpointError: no weights, a truncated or unsafe shard, or names that do not fit.
    """
    for index_name, single_name in LAYOUTS:
        open_shard = _open_safetensors if "safetensors" in single_name else _open_bin
        if (model / index_name).is_file():
            shards = sorted(set(_weight_map(model / index_name).values()))
            parts = [open_shard(model / shard) for shard in shards]
            merged = {name: reader for part in parts for name, reader in part.items()}
            return Checkpoint(config, merged)
        if (model / single_name).is_file():
            return Checkpoint(config, open_shard(model / single_name))
    names = ", ".join(name for layout in LAYOUTS for name in layout)
    raise CheckpointError(f"no weights in {model}", allowed=f"one of {names}")


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map: dict[str, str] = json.loads(index.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index} is not a shard index: {error}") from error
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index} is not a shard index: weight_map is not an object")
    for shard in weight_map.values():
        if not isinstance(shard, str):
            raise CheckpointError(f"{index} is not a shard index: not a shard", got=repr(shard))
        if Path(shard).name != shard:
            raise CheckpointError(f"{index} leaves its directory", got=shard)
    return weight_map


def _open_bin(shard: Path) -> dict[str, Reader]:
    try:
        tensors = torch.load(shard, map_location="cpu", mmap=True, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"shard {shard} is missing") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"shard {shard} holds more than tensors and was not loaded",
            next_step="it may run code; get the weights from a source you trust",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"shard {shard} cannot be read: {str(error).splitlines()[0]}",
            next_step="it may be truncated; copy it again and compare its size",
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise CheckpointError(f"shard {shard} is not a table of tensors")
    return dict.fromkeys(tensors, tensors.__getitem__)


def _open_safetensors(shard: Path) -> dict[str, Reader]:
    try:
        handle = safe_open(shard, framework="pt")
    except FileNotFoundError as error:
        raise CheckpointError(f"shard {shard} is missing") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"shard {shard} cannot be read: {error}",
            next_step="it may be truncated; copy it again and compare its size",
        ) from error
    names: list[str] = handle.keys()  # type: ignore[no-untyped-call]
    return dict.fromkeys(names, handle.get_tensor)
