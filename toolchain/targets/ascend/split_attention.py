"""Attention that reads the cache where it lies instead of copying it beside the new rows."""

import onnx_ir as ir

from export.expect import expect
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import attention
from runtime.bundle.tensor_names import past_key, past_value
from toolchain.targets.ascend.graph_edit import cache_inputs, constant, new_value, transpose

__all__ = ["SplitAttention"]

END = (1 << 63) - 1  # ONNX Slice: to the end of the axis


class SplitAttention(ir.passes.InPlacePass):
    """q @ [past, new] and weights @ [past, new] -> two products each.

    1. Scores over cached and over new rows are computed apart and joined: C + S numbers a row are
       copied instead of (C + S) x D.
    2. The softmax sees the joined scores, so nothing else changes.
    3. Its weights are cut again, and the two products with the values added.

    Expects 2 L joins, or none in a graph without a cache.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        graph, num_layers = model.graph, self.config.num_hidden_layers
        joined = {str(value.name): value for value in graph.inputs if _joins(value)}
        cached = expect(joined, cache_inputs(graph, num_layers))
        if cached:
            for i in range(num_layers):
                _split_scores(graph, attention(i), cached[past_key(i)])
                _split_values(graph, attention(i), cached[past_value(i)])
        return ir.passes.PassResult(model, modified=bool(cached))


def _joins(value: ir.Value) -> list[ir.Node]:
    """The Concat of a cache with new rows, if this is a cache."""
    return [node for node, _ in value.uses() if node.op_type == "Concat"]


def _joined(past: ir.Value) -> tuple[ir.Node, ir.Value]:
    """The Concat of a cache with new rows, and those rows."""
    [node] = _joins(past)
    rows = node.inputs[1]
    assert rows is not None, "Concat has two inputs"
    return node, rows


def _shape(value: ir.Value | None) -> list[int]:
    assert value is not None, "the input is given"
    assert value.shape is not None, "portable shapes are known"
    return list(value.shape.numpy())


def _split_scores(graph: ir.Graph, scope: str, past: ir.Value) -> None:
    joined, rows = _joined(past)
    [(turned, _)] = joined.outputs[0].uses()
    [(product, _)] = turned.outputs[0].uses()
    queries, scores = product.inputs[0], product.outputs[0]
    added: list[ir.Node] = []
    parts: list[ir.Value] = []
    for part, keys in (("past", past), ("new", rows)):
        columns = transpose(keys, (0, 1, 3, 2), f"{scope}/{part}_keys")
        part_scores = ir.node(
            "MatMul", [queries, columns.outputs[0]], name=f"{scope}/{part}_scores"
        )
        width = _shape(columns.outputs[0])[-1]
        new_value(part_scores.outputs[0], ir.DataType.FLOAT16, [*_shape(queries)[:-1], width])
        added += [columns, part_scores]
        parts.append(part_scores.outputs[0])
    concat = ir.node("Concat", parts, {"axis": -1}, name=f"{scope}/scores")
    new_value(concat.outputs[0], ir.DataType.FLOAT16, _shape(scores))
    graph.insert_after(product, [*added, concat])
    ir.convenience.replace_all_uses_with(scores, concat.outputs[0])
    graph.remove([product, turned, joined], safe=True)


def _split_values(graph: ir.Graph, scope: str, past: ir.Value) -> None:
    joined, rows = _joined(past)
    [(product, _)] = joined.outputs[0].uses()
    weights, out = product.inputs[0], product.outputs[0]
    cached = _shape(past)[2]
    added: list[ir.Node] = []
    parts: list[ir.Value] = []
    for part, values, start, end in (("past", past, 0, cached), ("new", rows, cached, END)):
        bounds = [
            constant(graph, f"{scope}/{part}_weights.{i}", [number])
            for i, number in enumerate((start, end, 3))
        ]
        cut = ir.node("Slice", [weights, *bounds], name=f"{scope}/{part}_weights")
        new_value(cut.outputs[0], ir.DataType.FLOAT16, [*_shape(weights)[:-1], _shape(values)[2]])
        part_product = ir.node("MatMul", [cut.outputs[0], values], name=f"{scope}/{part}_out")
        new_value(part_product.outputs[0], ir.DataType.FLOAT16, _shape(out))
        added += [cut, part_product]
        parts.append(part_product.outputs[0])
    total = ir.node("Add", parts, name=f"{scope}/out")
    new_value(total.outputs[0], ir.DataType.FLOAT16, _shape(out))
    graph.insert_after(product, [*added, total])
    ir.convenience.replace_all_uses_with(out, total.outputs[0])
    graph.remove([product, joined], safe=True)
