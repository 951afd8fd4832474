"""Weights of an exported bundle -> the files that torch programs take, in a stream."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.graphs import FREQUENCIES
from export.parameters import parameter_shape
from export.positions import inverse_frequencies
from export.program_weights import ProgramWeight, as_they_are, quantised_weights
from export.weight_bytes import floats, int4_levels, int4_scales
from profiles import BITS, Profile, layer_kind
from runtime.bundle.hashing_writer import WeightJob
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.reader import GRAPHS_DIR, WEIGHTS_DIR, Bundle
from toolchain.targets.cpu.blocks import quantize_blocks
from toolchain.targets.torch.devices import TorchDevice

__all__ = ["program_weights", "weight_jobs"]

CHUNK_ELEMENTS = 1 << 20  # of a weight in one thread's hands
PACKED_ROWS = 64  # whole multiples of them are packed one after the other

Chunks = Iterator[tuple[memoryview, ...]]


def program_weights(
    config: ModelConfig, profile: Profile, device: TorchDevice
) -> list[ProgramWeight]:
    """What the programs of a profile take.

    Raises:
        UserError: int4 groups that the device's kernel does not take.
    """
    dtype = device.dtypes[profile.weights]
    if profile.weights not in BITS:
        return as_they_are(config, dtype)
    return quantised_weights(
        config, dtype, device.name, lambda module: profile.fineness(layer_kind(module))
    )


def weight_jobs(
    bundle: Bundle, weights: list[ProgramWeight], device: TorchDevice
) -> list[WeightJob]:
    """What writes them, and the frequencies."""
    frequencies = inverse_frequencies(bundle.manifest.model).numpy().tobytes()
    return [
        *(_job(bundle, weight, device.name) for weight in weights),
        WeightJob(names=(FREQUENCIES,), chunks=lambda: iter([(frequencies,)])),
    ]


def _job(bundle: Bundle, weight: ProgramWeight, device: str) -> WeightJob:
    file = bundle.file(f"{GRAPHS_DIR}/{WEIGHTS_DIR}/{weight.parameter}")
    shape = parameter_shape(bundle.manifest.model, weight.parameter)
    names = tuple(spec.name for spec in weight.files)
    return WeightJob(names=names, chunks=lambda: _chunks(file, shape, weight, device))


def _chunks(file: Path, shape: tuple[int, ...], weight: ProgramWeight, device: str) -> Chunks:
    halves = np.memmap(file, np.float16, mode="r", shape=shape)
    blocks = _row_blocks(halves)
    dtype = weight.files[-1].dtype
    if weight.bits == 4:
        return _int4(blocks, weight.group_size, dtype, device)
    if weight.bits == 8:
        return _int8(blocks, weight.group_size, dtype)
    return ((floats(block, dtype),) for block in blocks)


def _row_blocks(array: NDArray[np.float16]) -> Iterator[NDArray[np.float16]]:
    width = int(np.prod(array.shape[1:]))
    step = max(1, CHUNK_ELEMENTS // width // PACKED_ROWS) * PACKED_ROWS
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _int8(blocks: Iterator[NDArray[np.float16]], group_size: int, dtype: str) -> Chunks:
    for block in blocks:
        levels, scales = quantize_blocks(block, 8, group_size)
        signed = np.ascontiguousarray(levels.reshape(block.shape) ^ 0x80)  # 0..255 -> -128..127
        yield signed.reshape(-1).data, floats(scales, dtype)


def _int4(
    blocks: Iterator[NDArray[np.float16]], group_size: int, dtype: str, device: str
) -> Chunks:
    """Levels block by block, then the scales, which lie across the rows."""
    found = []
    for block in blocks:
        pairs, scales = quantize_blocks(block, 4, group_size)
        levels = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(block.shape)
        found.append(scales)
        yield int4_levels(levels, device), memoryview(b"")
    yield memoryview(b""), int4_scales(np.concatenate(found), dtype)
