"""Linear layers of GPTQ and AWQ: their levels as MatMulNBits takes them, and the numbers they are.

    weight[n, k] = scale[n, k // group] * (level[n, k] - zero_point[n, k // group])

Levels are never rounded again. Dimensions: N outputs, K inputs, G groups of inputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.errors import CheckpointError
from export.packing import BEFORE, Packing
from export.parameters import EMBEDDING, LM_HEAD
from export.tensor_file import StoredTensor, TensorFile

__all__ = ["PackedRows", "PackedWeight", "unpacked"]

NIBBLES = 8  # in an int32, the lowest first
# The column that each nibble holds: AWQ's kernels take even and odd ones apart.
COLUMNS = {"gptq": np.arange(NIBBLES), "awq": np.array([0, 2, 4, 6, 1, 3, 5, 7])}
ROW_ELEMENTS = 1 << 20  # of a weight in hand at a time
INDEX = "g_idx"  # of GPTQ: the group of every input
DTYPES = {"qweight": "int32", "qzeros": "int32", "scales": "float16", INDEX: "int32"}
SYMMETRIC = 8  # the zero point of symmetric levels

Array = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Some rows of a weight.

    levels: uint8 (n, G, group / 2), two in a byte, the lower half first.
    scales: float16 (n, G).
    zero_points: uint8 (n, ceil(G / 2)), packed like levels.
    values: float32 (n, K), what they stand for.
    """

    levels: Array
    scales: NDArray[np.float16]
    zero_points: Array
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWeight:
    """A linear layer's tensors, which fit each other."""

    name: str
    packing: Packing
    shape: tuple[int, ...]
    stored: dict[str, StoredTensor]

    @property
    def num_groups(self) -> int:
        """Of each output."""
        return self.shape[1] // self.packing.group_size

    @property
    def num_bytes(self) -> int:
        """Of levels, scales, and zero points where they vary."""
        zero_points = 0 if self.packing.symmetric else -(-self.num_groups // 2)
        per_row = self.shape[1] // 2 + 2 * self.num_groups + zero_points
        return self.shape[0] * per_row

    def check(self) -> None:
        """Raises CheckpointError where a part is missing or does not fit."""
        (num_rows, num_columns), size = self.shape, self.packing.group_size
        if num_columns % size or num_rows % NIBBLES:
            raise CheckpointError(
                f"{self.name} cannot be packed in whole groups",
                got=f"{num_rows} outputs of {num_columns} inputs",
                allowed=f"multiples of {NIBBLES} and of {size}",
                next_step="check that config.json and the shards belong together",
            )
        words = {
            "gptq": (num_columns // NIBBLES, num_rows),
            "awq": (num_columns, num_rows // NIBBLES),
        }
        shapes = {
            "qweight": words[self.packing.method],
            "qzeros": (self.num_groups, num_rows // NIBBLES),
            "scales": (self.num_groups, num_rows),
            INDEX: (num_columns,),
        }
        for part, shape in shapes.items():
            found = self.stored.get(part)
            if found is None and part == INDEX:
                continue
            if found is None or (found.shape, found.dtype) != (shape, DTYPES[part]):
                raise CheckpointError(
                    f"tensor {self.name}.{part}",
                    got="none" if found is None else f"{found.dtype} {found.shape}",
                    allowed=f"{DTYPES[part]} {shape}, for {self.packing}",
                    next_step="check that config.json and the shards belong together",
                )

    def rows(self) -> Iterator[PackedRows]:
        """The rows in order, some at a time.

        Raises:
            CheckpointError: columns in another order, or other zero points than are promised.
        """
        self._check_order()
        zeros_GN = self._zero_points()
        levels = self._levels()
        scales_NG = np.ascontiguousarray(self.stored["scales"].read().numpy().T)
        step = max(1, ROW_ELEMENTS // self.shape[1])
        for start in range(0, self.shape[0], step):
            part = slice(start, start + step)
            yield self._rows(levels[part], scales_NG[part], zeros_GN.T[part])

    def read(self) -> Tensor:
        """The numbers, float32 (N, K)."""
        return torch.from_numpy(np.concatenate([rows.values for rows in self.rows()]))

    def _rows(self, levels: Array, scales: NDArray[np.float16], zeros: Array) -> PackedRows:
        wide = np.stack([levels & 15, levels >> 4], axis=-1).reshape(*levels.shape[:2], -1)
        centred = wide.astype(np.float32) - zeros[..., None]
        values = centred * scales.astype(np.float32)[..., None]
        return PackedRows(levels, scales, _paired(zeros), values.reshape(len(levels), -1))

    def _levels(self) -> Array:
        """Levels as PackedRows has them, group by group, since int32 is wide."""
        num_rows, size = self.shape[0], self.packing.group_size
        levels = np.empty((num_rows, self.num_groups, size // 2), np.uint8)
        words = self.stored["qweight"].read().numpy().view(np.uint32)
        step = len(words) // self.num_groups
        for group in range(self.num_groups):
            part = words[group * step : (group + 1) * step]
            if self.packing.method == "gptq":  # a word holds 8 inputs of an output
                wide_KN = _nibbles(part, COLUMNS["gptq"]).swapaxes(1, 2).reshape(size, num_rows)
            else:
                wide_KN = _nibbles(part, COLUMNS["awq"]).reshape(size, num_rows)
            levels[:, group] = _paired(np.ascontiguousarray(wide_KN.T))
        return levels

    def _zero_points(self) -> Array:
        """uint8 (G, N)."""
        words = self.stored["qzeros"].read().numpy().view(np.uint32)
        wide = _nibbles(words, COLUMNS[self.packing.method]).reshape(self.num_groups, -1)
        zeros = (wide + np.uint8(self.packing.zero_offset)) & np.uint8(15)
        if self.packing.symmetric and (zeros != SYMMETRIC).any():
            raise CheckpointError(
                f"{self.name} has zero points that symmetric levels do not have",
                got=str(int(zeros[zeros != SYMMETRIC][0])),
                allowed=str(SYMMETRIC),
                next_step="check sym and checkpoint_format in its settings",
            )
        return zeros

    def _check_order(self) -> None:
        index = self.stored.get(INDEX)
        if index is None:
            return
        groups = torch.arange(self.shape[1]) // self.packing.group_size
        if not torch.equal(index.read().long(), groups):
            raise CheckpointError(
                f"{self.name} has its columns in the order of the activations (desc_act)",
                got=f"{INDEX} {index.read()[:4].tolist()} and so on",
                allowed="groups one after the other",
                next_step=BEFORE,
            )


def _nibbles(words: NDArray[np.uint32], columns: NDArray[np.int64]) -> Array:
    """(a, b) words -> (a, b, 8) levels in the order of what they are levels of."""
    shifts = 4 * np.argsort(columns).astype(np.uint32)
    return ((words[..., None] >> shifts) & 15).astype(np.uint8)


def _paired(wide: Array) -> Array:
    """(n, m) levels -> (n, ceil(m / 2)) bytes, the lower half first."""
    even = np.pad(wide, ((0, 0), (0, wide.shape[1] % 2)))
    packed: Array = even[:, ::2] | np.left_shift(even[:, 1::2], np.uint8(4))
    return packed


def unpacked(
    stored: TensorFile, packing: Packing, shapes: dict[str, tuple[int, ...]]
) -> tuple[TensorFile, dict[str, PackedWeight]]:
    """The tensors with a plain weight in the place of each packed one, and the packed ones.

    Args:
        stored: all tensors of a checkpoint.
        packing: of its linear layers; the embedding and the head are plain.
        shapes: of the model's tensors, by name.

    Raises:
        CheckpointError: a part is missing or has another shape or type than its weight promises.
    """
    tensors, packed = dict(stored.tensors), {}
    for name, shape in shapes.items():
        if len(shape) != 2 or name in (EMBEDDING, LM_HEAD):
            continue
        module = name.removesuffix(".weight")
        parts = {p: tensors.pop(f"{module}.{p}") for p in DTYPES if f"{module}.{p}" in tensors}
        packed[name] = PackedWeight(name=module, packing=packing, shape=shape, stored=parts)
        packed[name].check()
        tensors[name] = StoredTensor(shape=shape, dtype="float32", read=packed[name].read)
        bias = f"{module}.bias"
        if bias in tensors and bias not in shapes and not tensors[bias].read().any():
            del tensors[bias]  # older tools of GPTQ give every layer one, of zeros
    return TensorFile(tensors=tensors, aliases=stored.aliases), packed
