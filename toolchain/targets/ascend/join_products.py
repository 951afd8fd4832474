"""Products of one input as one: query, key and value; gate and up."""

from collections.abc import Iterator, Sequence
from itertools import chain

import onnx_ir as ir

from export.expect import find
from runtime.bundle.hashing_writer import Buffer, WeightJob
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import joined_products, module_of
from toolchain.targets.ascend.graph_edit import NodeList, new_value, shape_of, transpose
from toolchain.targets.weights import StoredTensor, StreamedTensor, register, weight_job

__all__ = ["JoinProducts"]


class JoinProducts(ir.passes.InPlacePass):
    """Products with weights, in float16 or int8 -> one, whose result is cut again.

    A row of a weight, and its scales, belong to one output. So the joined weight is the bytes of
    its parts one after the other, which are read and written in pieces when the files are made.

    Expects 5 L products. Runs after weight_quant.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        groups = joined_products(self.config.num_hidden_layers)
        found = find(model.graph, [name for names in groups.values() for name in names])
        for joined, names in groups.items():
            _join(model.graph, joined, [found[name] for name in names])
        return ir.passes.PassResult(model, modified=True)


def _join(graph: ir.Graph, name: str, products: Sequence[ir.Node]) -> None:
    first, module = products[0], module_of(name)
    operands = [
        _like(graph, operand, register(graph, tensor))
        for operand, tensor in zip(first.inputs[1:], _joined(module, products), strict=True)
    ]
    sizes = [shape_of(node.outputs[0])[-1] for node in products]
    joined = ir.node(
        first.op_type,
        [first.inputs[0], *operands],
        {name: value.value for name, value in first.attributes.items()},
        domain=first.domain,
        name=name,
    )
    shape = (*shape_of(first.outputs[0])[:-1], sum(sizes))
    new_value(joined.outputs[0], ir.DataType.FLOAT16, shape)
    graph.append(joined)
    names = [module_of(str(node.name)).rpartition(".")[2] for node in products]
    parts = NodeList(graph, module).split(joined.outputs[0], names, len(shape) - 1, sizes)
    for node, part in zip(products, parts, strict=True):
        ir.convenience.replace_all_uses_with(node.outputs[0], part)


def _source(operand: ir.Value | None) -> ir.Value:
    """The initializer of an operand, which may lie behind a Transpose."""
    assert operand is not None, "every operand is given"
    producer = operand.producer()
    source = producer.inputs[0] if producer is not None else operand
    assert source is not None, "Transpose has an input"
    return source


def _like(graph: ir.Graph, operand: ir.Value | None, tensor: ir.Value) -> ir.Value:
    """The tensor behind a Transpose where the operand lies behind one."""
    if operand is _source(operand):
        return tensor
    node = transpose(tensor, (1, 0), f"{tensor.name}/Transpose")
    graph.append(node)
    return node.outputs[0]


def _joined(module: str, products: Sequence[ir.Node]) -> list[StreamedTensor]:
    """The weight and what belongs to it, of all products together."""
    parts = [list(map(_tensor, node.inputs[1:])) for node in products]
    jobs = [weight_job(tensors[0]) for tensors in parts]
    of_first = module_of(str(products[0].name))

    def chunks() -> Iterator[tuple[Buffer, ...]]:
        return chain.from_iterable(job.chunks() for job in jobs)

    names = tuple(name.replace(of_first, module, 1) for name in jobs[0].names)
    job = WeightJob(names=names, chunks=chunks)
    return [
        StreamedTensor(
            job,
            position,
            tensor.dtype,
            (
                sum(tensors[position].shape.numpy()[0] for tensors in parts),
                *tensor.shape.numpy()[1:],
            ),
        )
        for position, tensor in enumerate(parts[0])
    ]


def _tensor(operand: ir.Value | None) -> StoredTensor:
    tensor = _source(operand).const_value
    assert isinstance(tensor, ir.ExternalTensor | StreamedTensor), "weights come from files"
    return tensor
