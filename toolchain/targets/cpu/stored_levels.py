"""The levels that a checkpoint of GPTQ or AWQ came with, as they lie in its exported bundle."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.packing import PLACE, level_names, packed_weights, stored_group_size
from profiles import Fineness
from runtime.bundle.reader import Bundle
from toolchain.targets.weights import StreamedTensor, streamed

__all__ = ["StoredLevels", "stored_levels"]

BITS = 4
ROWS = 512  # in one thread's hands at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLevels:
    """What lies beside each weight that is quantised already.

    group_size: inputs that share a scale.
    files: by weight: its levels, their scales, and zero points where they vary.
    """

    group_size: int
    files: dict[str, tuple[Path, ...]]

    def has(self, weight: str, fineness: Fineness) -> bool:
        """Whether a weight has levels as fine as is asked."""
        return weight in self.files and fineness == (BITS, self.group_size)

    def tensors(self, weight: ir.ExternalTensor, stem: str) -> list[StreamedTensor]:
        """Levels, float32 scales, and zero points where they vary, as MatMulNBits takes them."""
        files = self.files[weight.name]
        num_rows, num_columns = weight.shape.numpy()
        num_groups = num_columns // self.group_size
        shapes = (
            (num_rows, num_groups, self.group_size * BITS // 8),
            (num_rows, num_groups),
            (num_rows, -(-num_groups * BITS // 8)),
        )
        names = (stem, f"{stem}.scales", f"{stem}.zero_points")
        stored = (np.uint8, np.float16, np.uint8)
        made = (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8)

        def arrays() -> Iterator[tuple[NDArray[np.generic], ...]]:
            mapped = [
                np.memmap(file, dtype, "r", shape=shape)
                for file, dtype, shape in zip(files, stored, shapes, strict=False)
            ]
            for start in range(0, num_rows, ROWS):
                parts = (array[start : start + ROWS] for array in mapped)
                yield tuple(p.astype(kind.numpy()) for p, kind in zip(parts, made, strict=False))

        kinds = list(zip(names, zip(made, shapes, strict=True), strict=True))
        return streamed(dict(kinds[: len(files)]), arrays)


def stored_levels(bundle: Bundle) -> StoredLevels | None:
    """The levels of an exported bundle; None where its checkpoint had plain numbers."""
    files = bundle.manifest.files
    group_size = stored_group_size(files)
    if group_size is None:
        return None
    return StoredLevels(
        group_size=group_size,
        files={
            weight: tuple(
                bundle.file(path)
                for name in level_names(weight, symmetric=False)
                if (path := f"{PLACE}{name}") in files
            )
            for weight in packed_weights(files)
        },
    )
