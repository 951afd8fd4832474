"""Query, key and value as one product."""

from collections.abc import Iterator
from itertools import chain

import onnx_ir as ir

from export.expect import expect
from runtime.bundle.hashing_writer import Buffer, WeightJob
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import (
    ATTENTION_KERNEL,
    attention_kernels,
    module_of,
    node_name,
)
from toolchain.targets.weights import StreamedTensor, register

__all__ = ["PackQkv"]


class PackQkv(ir.passes.InPlacePass):
    """Three MatMulNBits of one input -> one, which GroupQueryAttention takes apart itself.

    The rows of the three weights follow each other, so the bytes of the joined levels and scales
    are those of the parts one after the other.

    A bias or a norm between a product and the kernel keeps them apart. Expects L kernels that take
    three such products else.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        graph = model.graph
        if self.config.attention_bias or self.config.qk_norm:
            return ir.passes.PassResult(model, modified=False)
        kernels = [node for node in graph if node.op_type == ATTENTION_KERNEL]
        packable = {str(node.name): node for node in kernels if len(_products(node)) == 3}
        expect(packable, attention_kernels(self.config.num_hidden_layers))
        for node in kernels:
            _join(graph, node, _products(node))
        return ir.passes.PassResult(model, modified=True)


def _products(attention: ir.Node) -> list[ir.Node]:
    """What gives query, key and value, where that is MatMulNBits."""
    parts = [value.producer() for value in attention.inputs[:3] if value is not None]
    return [node for node in parts if node is not None and node.op_type == "MatMulNBits"]


def _join(graph: ir.Graph, attention: ir.Node, products: list[ir.Node]) -> None:
    module = f"{module_of(str(attention.name))}.qkv_proj"
    name = node_name(module, "MatMul")
    levels, scales = _joined(f"{module}.weight", products)
    attributes = {name: value for name, value in products[0].attributes.items() if name != "N"}
    num_rows = sum(node.attributes["N"].as_int() for node in products)
    joined = ir.node(
        "MatMulNBits",
        [products[0].inputs[0], register(graph, levels), register(graph, scales)],
        {**{name: value.value for name, value in attributes.items()}, "N": num_rows},
        domain="com.microsoft",
        name=name,
    )
    result = joined.outputs[0]
    result.name, result.type = name, products[0].outputs[0].type
    graph.insert_before(attention, joined)
    attention.replace_input_with(0, result)
    attention.replace_input_with(1, None)
    attention.replace_input_with(2, None)


def _joined(name: str, products: list[ir.Node]) -> tuple[StreamedTensor, StreamedTensor]:
    """Levels and scales of all parts, made together."""
    parts = [node.inputs[1].const_value for node in products if node.inputs[1] is not None]
    levels = [part for part in parts if isinstance(part, StreamedTensor)]
    jobs = [part.job for part in levels]

    def chunks() -> Iterator[tuple[Buffer, ...]]:
        return chain.from_iterable(job.chunks() for job in jobs)

    bits = str(jobs[0].names[0]).rpartition(".")[2]
    job = WeightJob(names=(f"{name}.{bits}", f"{name}.{bits}.scales"), chunks=chunks)
    num_rows = sum(part.shape.numpy()[0] for part in levels)
    _, num_blocks, width = levels[0].shape.numpy()
    return (
        StreamedTensor(job, 0, ir.DataType.UINT8, (num_rows, num_blocks, width)),
        StreamedTensor(job, 1, ir.DataType.FLOAT, (num_rows, num_blocks)),
    )
