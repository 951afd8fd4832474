"""How torch's own int4 products want their weights to lie, as data. No torch."""

from collections.abc import Callable
from dataclasses import dataclass

from runtime.bundle.manifest import DType

__all__ = ["GROUPS", "INT4_LAYOUTS", "Int4Layout", "inner_tiles"]

GROUPS = (32, 64, 128, 256)  # inputs that may share a scale


def inner_tiles(num_inputs: int) -> int:
    """Tiles of 16 inputs that lie together: as many of 8, 4 or 2 as cut the inputs evenly."""
    return next(tiles for tiles in (8, 4, 2) if num_inputs % (16 * tiles) == 0)


def _on_cpu(rows: int, columns: int) -> tuple[int, ...]:
    return rows, columns // 2


def _on_cuda(rows: int, columns: int) -> tuple[int, ...]:
    tiles = inner_tiles(columns)
    return rows // 8, columns // (16 * tiles), 32, tiles // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Int4Layout:
    """Of packed levels.

    shape: from outputs and inputs.
    product: the operator of torch.ops.aten that takes them.
    pack: the one that makes them.
    pairs: whether that takes two levels in a byte, the even one in the upper half.

    Source: aten/src/ATen/native/cuda/int4mm.cu and cpu/int4mm_kernel.cpp of torch.
    """

    dtype: DType
    shape: Callable[[int, int], tuple[int, ...]]
    product: str
    pack: str
    pairs: bool


INT4_LAYOUTS = {
    "cpu": Int4Layout(
        dtype="uint8",
        shape=_on_cpu,
        product="_weight_int4pack_mm_for_cpu",
        pack="_convert_weight_to_int4pack_for_cpu",
        pairs=False,
    ),
    "cuda": Int4Layout(
        dtype="int32",
        shape=_on_cuda,
        product="_weight_int4pack_mm",
        pack="_convert_weight_to_int4pack",
        pairs=True,
    ),
}
