"""The weights of an .air, from those of an exported bundle: as they are, joined, or in int8."""

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.air.weights import Weight
from export.graphs import FREQUENCIES
from export.parameters import parameter_shape
from export.positions import inverse_frequencies
from runtime.bundle.hashing_writer import HashingWriter, WeightJob
from runtime.bundle.reader import GRAPHS_DIR, WEIGHTS_DIR, Bundle
from toolchain.targets.ascend.weight_quant import quantize_rows

__all__ = ["made_bytes", "stored_bytes", "write_weights"]

WEIGHTS = f"{GRAPHS_DIR}/{WEIGHTS_DIR}"
ROW_BLOCK = 1 << 16  # elements of a weight in one thread's hands


def made_bytes(weights: Sequence[Weight]) -> int:
    """Of the files that no file of the bundle can stand for."""
    return stored_bytes([weight for weight in weights if _is_made(weight)])


def stored_bytes(weights: Sequence[Weight]) -> int:
    """Of all files."""
    files = (file for weight in weights for file in weight.files)
    return sum(prod(file.shape) * np.dtype(file.dtype).itemsize for file in files)


def write_weights(bundle: Bundle, weights: Sequence[Weight], stage: HashingWriter) -> None:
    """Links to the bundle's files, and starts to write the others."""
    frequencies = inverse_frequencies(bundle.manifest.model).numpy().tobytes()
    jobs = [WeightJob(names=(FREQUENCIES,), chunks=lambda: iter([(frequencies,)]))]
    for weight in weights:
        if _is_made(weight):
            jobs.append(_job(bundle, weight))
        else:
            (stage.directory / WEIGHTS / weight.name).symlink_to(_source(bundle, weight.parts[0]))
    stage.start_weights(jobs)


def _is_made(weight: Weight) -> bool:
    return len(weight.parts) > 1 or weight.group_size is not None


def _source(bundle: Bundle, parameter: str) -> Path:
    return bundle.file(f"{WEIGHTS}/{parameter}").resolve()


def _job(bundle: Bundle, weight: Weight) -> WeightJob:
    names = tuple(file.name for file in weight.files)
    return WeightJob(names=names, chunks=lambda: _chunks(bundle, weight))


def _chunks(bundle: Bundle, weight: Weight) -> Iterator[tuple[memoryview, ...]]:
    """The rows of all parts, some at a time; each chunk is a piece of every file."""
    for part in weight.parts:
        shape = parameter_shape(bundle.manifest.model, part)
        rows = np.memmap(_source(bundle, part), np.float16, mode="r", shape=shape)
        step = max(1, ROW_BLOCK // shape[1])
        for start in range(0, shape[0], step):
            block = rows[start : start + step]
            if weight.group_size is None:
                yield (_bytes(block),)
            else:
                levels, scales = quantize_rows(block, weight.group_size or shape[1])
                yield _bytes(levels), _bytes(scales)


def _bytes(rows: NDArray[np.generic]) -> memoryview:
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
