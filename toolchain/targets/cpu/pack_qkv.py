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

    The rows of the three weights follow each other, so the bytes of the joined levels, scales and
    zero points are those of the parts one after the other.

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
    weights = _joined(f"{module}.weight", products)
    attributes = {name: value for name, value in products[0].attributes.items() if name != "N"}
    num_rows = sum(node.attributes["N"].as_int() for node in products)
    joined = ir.node(
        "MatMulNBits",
        [products[0].inputs[0], *(register(graph, tensor) for tensor in weights)],
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


def _joined(name: str, products: list[ir.Node]) -> list[StreamedTensor]:
    """Levels, scales and zero points of all parts, made together."""
    parts = [[value.const_value for value in node.inputs[1:] if value] for node in products]
    rows = [[each for each in part if isinstance(each, StreamedTensor)] for part in parts]
    jobs = [part[0].job for part in rows]

    def chunks() -> Iterator[tuple[Buffer, ...]]:
        return chain.from_iterable(job.chunks() for job in jobs)

    suffixes = (each.partition(".weight.")[2] for each in jobs[0].names)
    job = WeightJob(names=tuple(f"{name}.{suffix}" for suffix in suffixes), chunks=chunks)
    joined = []
    for position, same in enumerate(zip(*rows, strict=True)):
        num_rows = sum(each.shape.numpy()[0] for each in same)
        shape = (num_rows, *same[0].shape.numpy()[1:])
        joined.append(StreamedTensor(job, position, same[0].dtype, shape))
    return joined
