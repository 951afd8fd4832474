"""What writes the weights of an exported bundle: float16, and the levels that a checkpoint had."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from export.checkpoint import Checkpoint, TensorSource
from export.errors import CheckpointError
from export.packed_weights import PackedWeight
from export.packing import level_names
from export.parameters import parameter_shape, parameters
from runtime.bundle.hashing_writer import Buffer, WeightJob
from runtime.bundle.manifest import ModelConfig

__all__ = ["float16_bytes", "weight_jobs"]

BYTES_PER_WEIGHT = 2  # float16


def weight_jobs(config: ModelConfig, source: TensorSource) -> tuple[list[WeightJob], int]:
    """One for each parameter, and the bytes that they write."""
    packed = source.packed if isinstance(source, Checkpoint) else {}
    names = parameters(config)
    jobs = [
        _packed_job(name, packed[name]) if name in packed else _plain_job(name, source)
        for name in names
    ]
    elements = sum(math.prod(parameter_shape(config, name)) for name in names)
    num_bytes = BYTES_PER_WEIGHT * elements + sum(each.num_bytes for each in packed.values())
    return jobs, num_bytes


def _plain_job(parameter: str, source: TensorSource) -> WeightJob:
    """A weight as float16."""

    def chunks() -> Iterator[tuple[memoryview]]:
        return ((float16_bytes(parameter, chunk),) for chunk in source.chunks(parameter))

    return WeightJob(names=(parameter,), chunks=chunks)


def _packed_job(parameter: str, packed: PackedWeight) -> WeightJob:
    """A weight as float16, and beside it the levels that it had."""
    names = (parameter, *level_names(parameter, packed.packing.symmetric))

    def chunks() -> Iterator[tuple[Buffer, ...]]:
        for rows in packed.rows():
            half = float16_bytes(parameter, torch.from_numpy(rows.values).flatten())
            parts = (rows.levels, rows.scales, rows.zero_points)[: len(names) - 1]
            yield (half, *(part.tobytes() for part in parts))

    return WeightJob(names=names, chunks=chunks)


def float16_bytes(parameter: str, chunk: Tensor) -> memoryview:
    """The bytes of a flat piece of a tensor as float16.

    Raises:
        CheckpointError: a value is not finite in float16.
    """
    half = chunk.to(torch.float16).contiguous().numpy()
    # Without the sign, the bits of an infinity are 0x7C00 and those of a NaN are above.
    if (half.view(np.uint16) & 0x7FFF).max() >= 0x7C00:
        raise CheckpointError(
            f"tensor {parameter} has values that are not finite in float16",
            got=f"{chunk.dtype}, largest {chunk.abs().max().item():g}",
            allowed="up to 65504",
        )
    return half.view(np.uint8).data
