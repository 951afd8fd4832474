"""Tensors that are made chunk by chunk when the bundle is written.

A streamed tensor knows the job that makes it, so that tensors with one source are made together
from one reading, and none is ever whole in memory.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from runtime.bundle.writer import WeightJob

__all__ = ["StreamedTensor", "column_blocks", "register", "row_blocks", "streamed"]

# Elements of a weight in one thread's hands at a time: rows that stay in a core's cache with all
# that is computed from them, and columns wide enough for whole cache lines.
ROW_BLOCK, COLUMN_BLOCK = 1 << 16, 1 << 20

Arrays = tuple[NDArray[np.generic], ...]


class StreamedTensor(ir.LazyTensor):
    """One of the tensors that a job makes."""

    def __init__(
        self, job: WeightJob, position: int, dtype: ir.DataType, shape: tuple[int, ...]
    ) -> None:
        self.job = job
        super().__init__(
            lambda: ir.Tensor(
                np.frombuffer(
                    b"".join(bytes(chunks[position]) for chunks in job.chunks()), dtype.numpy()
                ).reshape(shape)
            ),
            dtype=dtype,
            shape=ir.Shape(shape),
            name=job.names[position],
        )


def streamed(
    tensors: dict[str, tuple[ir.DataType, tuple[int, ...]]],
    arrays: Callable[[], Iterator[Arrays]],
) -> list[StreamedTensor]:
    """Tensors made together.

    Args:
        tensors: names with types and shapes.
        arrays: yields the next rows of each tensor, again and again.
    """
    job = WeightJob(
        names=tuple(tensors),
        chunks=lambda: (tuple(map(_bytes, rows)) for rows in arrays()),
    )
    return [
        StreamedTensor(job, position, dtype, shape)
        for position, (dtype, shape) in enumerate(tensors.values())
    ]


def _bytes(rows: NDArray[np.generic]) -> memoryview:
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data


def row_blocks(tensor: ir.ExternalTensor) -> Iterator[NDArray[np.generic]]:
    """The rows of a stored weight, some at a time; the file is mapped, not read whole."""
    array = tensor.numpy()
    width = math.prod(array.shape[1:])
    step = max(1, ROW_BLOCK // width)
    for start in range(0, len(array), step):
        yield array[start : start + step]


def column_blocks(tensor: ir.ExternalTensor) -> Iterator[NDArray[np.generic]]:
    """The rows of a stored weight's transpose, some at a time."""
    array = tensor.numpy()
    step = max(1, COLUMN_BLOCK // len(array))
    for start in range(0, array.shape[1], step):
        yield array[:, start : start + step].T


def register(graph: ir.Graph, tensor: StreamedTensor) -> ir.Value:
    """Makes the tensor an initializer of the graph."""
    value = ir.Value(
        name=tensor.name,
        shape=tensor.shape,
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value
