"""Weights on their way from graph to file: which a graph refers to, and what makes each of them.

A streamed tensor is made chunk by chunk when the bundle is written. It knows the job that makes
it, so that tensors with one source are made together from one reading, and none is ever whole in
memory.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from runtime.bundle.hashing_writer import WeightJob
from runtime.bundle.manifest import TensorSpec
from runtime.bundle.reader import WEIGHTS_DIR

__all__ = [
    "StoredTensor",
    "StreamedTensor",
    "column_blocks",
    "find_linears",
    "linear_weight",
    "promise_weights",
    "register",
    "row_blocks",
    "streamed",
    "tensor_spec",
    "weight_job",
]

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


def row_blocks(
    tensor: ir.ExternalTensor, elements: int = ROW_BLOCK
) -> Iterator[NDArray[np.generic]]:
    """The rows of a stored weight, some at a time; the file is mapped, not read whole."""
    array = tensor.numpy()
    width = math.prod(array.shape[1:])
    step = max(1, elements // width)
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


StoredTensor = ir.ExternalTensor | StreamedTensor


def promise_weights(model: ir.Model) -> dict[str, StoredTensor]:
    """Points every large initializer at the file that it will have; returns what was there."""
    promised: dict[str, StoredTensor] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor | StreamedTensor):
            promised[name] = tensor
            value.const_value = ir.ExternalTensor(
                f"{WEIGHTS_DIR}/{name}",
                0,
                tensor.nbytes,
                tensor.dtype,
                shape=tensor.shape,
                name=name,
            )
    return promised


def weight_job(tensor: StoredTensor) -> WeightJob:
    """What makes a tensor; one that no pass has touched is copied."""
    if isinstance(tensor, StreamedTensor):
        return tensor.job
    [copied] = streamed(
        {tensor.name: (tensor.dtype, tensor.shape.numpy())},
        lambda: ((rows,) for rows in row_blocks(tensor)),
    )
    return copied.job


def tensor_spec(value: ir.Value, sizes: dict[str, int]) -> TensorSpec:
    """A graph's input or output, with numbers for the dimensions that were left open."""
    assert value.dtype is not None, "every graph input and output is typed"
    assert value.shape is not None, "every graph input and output has a shape"
    shape = [dim if isinstance(dim, int) else sizes[str(dim.value)] for dim in value.shape]
    fields = {"name": value.name, "dtype": value.dtype.numpy().name, "shape": tuple(shape)}
    return TensorSpec.model_validate(fields)


def find_linears(graph: ir.Graph) -> dict[str, ir.Node]:
    """The products with a weight straight from a file, by name."""
    return {str(node.name): node for node in graph if linear_weight(node) is not None}


def linear_weight(node: ir.Node) -> ir.ExternalTensor | None:
    """The weight of a linear layer: the second factor, transposed, straight from a file."""
    if node.op_type != "MatMul" or node.inputs[1] is None:
        return None
    producer = node.inputs[1].producer()
    if producer is None or producer.op_type != "Transpose" or producer.inputs[0] is None:
        return None
    tensor = producer.inputs[0].const_value
    return tensor if isinstance(tensor, ir.ExternalTensor) else None
