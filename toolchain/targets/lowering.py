"""From a graph to files: which weights it refers to, and what makes each of them."""

import onnx_ir as ir

from runtime.bundle.manifest import TensorSpec
from runtime.bundle.reader import WEIGHTS_DIR
from runtime.bundle.writer import WeightJob
from toolchain.targets.streamed import StreamedTensor, row_blocks, streamed

__all__ = ["StoredTensor", "linear_weight", "promise_weights", "tensor_spec", "weight_job"]

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


def linear_weight(node: ir.Node) -> ir.ExternalTensor | None:
    """The weight of a linear layer: the second factor, transposed, straight from a file."""
    if node.op_type != "MatMul" or node.inputs[1] is None:
        return None
    producer = node.inputs[1].producer()
    if producer is None or producer.op_type != "Transpose" or producer.inputs[0] is None:
        return None
    tensor = producer.inputs[0].const_value
    return tensor if isinstance(tensor, ir.ExternalTensor) else None
