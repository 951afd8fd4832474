"""What the layers of a graph are given on some texts, computed with the weights made so far."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import tensor_names as names
from toolchain.errors import TargetError
from toolchain.targets.cpu.calibration_lengths import TEXTS_AT_ONCE
from toolchain.targets.cpu.layer_parts import LayerParts
from toolchain.targets.cpu.product import STRIP, Matrix, product

__all__ = ["Activations"]


class Activations:
    """Residual streams of some texts, and the second moments of what a product is given.

    Args:
        parts: the layers; those before the one that is asked for are complete.
        sequences: token ids.
        threads: to compute with; no result depends on their number.
    """

    def __init__(
        self, parts: LayerParts, sequences: Sequence[Sequence[int]], threads: Executor
    ) -> None:
        self._parts, self._threads = parts, threads
        self.num_rows = sum(map(len, sequences))
        self._layer = 0
        self._streams: list[NDArray[np.generic]] = [np.array([ids], np.int64) for ids in sequences]

    def second_moments(self, layer: int, value: str) -> Matrix:
        """X^T X of all rows X of a value in a layer, (K, K); below the diagonal it is zero.

        Layers are asked for in order.

        Raises:
            TargetError: the model gives numbers that are none.
        """
        while self._layer < layer:
            batches = self._batches(names.hidden_name(self._layer))
            self._streams = [rows[None] for texts in batches for rows in texts]
            self._layer += 1
        moments: Matrix = np.zeros((0, 0), np.float32)
        for texts in self._batches(value):
            rows = np.concatenate(texts)
            if not moments.size:
                moments = np.zeros((rows.shape[1],) * 2, np.float32)
            self._add(moments, rows)
        if not np.isfinite(np.diagonal(moments)).all():
            raise TargetError(
                f"layer {layer} gives numbers for the calibration that are none",
                next_step="run `toolchain verify` on the exported bundle to find the fault",
            )
        return moments

    def _batches(self, value: str) -> Iterator[list[Matrix]]:
        """A value of the layer, (S, K) for each text, of some texts at a time."""
        run = self._parts.part(self._layer, [value], num_threads=1)
        for start in range(0, len(self._streams), TEXTS_AT_ONCE):
            results = self._threads.map(run, self._streams[start : start + TEXTS_AT_ONCE])
            yield [arrays[value][0].astype(np.float32) for arrays in results]

    def _add(self, moments: Matrix, rows: Matrix) -> None:
        """Adds X^T X of some rows, strip by strip."""

        def add(start: int) -> None:
            strip = rows[:, start : start + STRIP]
            moments[start : start + STRIP, start:] += product(
                strip, rows[:, start:], transpose_a=True
            )

        list(self._threads.map(add, range(0, len(moments), STRIP)))
