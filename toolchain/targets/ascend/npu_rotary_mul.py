"""Rotation of queries and keys as the chip's own kernel."""

from collections.abc import Mapping

import onnx_ir as ir

from export.expect import find
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import attention
from toolchain.targets.ascend.graph_edit import NodeList, shape_of
from toolchain.targets.ascend.rules.kernel_rules import ROTATED_MULTIPLE

__all__ = ["NpuRotaryMul"]

ROTATED = ("query", "key")


class NpuRotaryMul(ir.passes.InPlacePass):
    """Split, four Mul, Sub, Add, Concat -> npu::NPURotaryMul(x, cos, sin).

    The kernel computes x * cos + (-right, left) * sin over whole heads, so each table is written
    twice over, once for all layers: (1, S, 1, D / 2) -> (1, S, 1, D). Heads of another size than
    the kernel takes stay as they are.

    Expects 2 L rotations, as RewriteAttention writes them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        graph, fits = model.graph, self.config.head_dim % ROTATED_MULTIPLE == 0
        scopes = [
            f"{attention(i)}/{name}"
            for i in range(self.config.num_hidden_layers)
            for name in ROTATED
        ]
        parts = [f"{scope}/{part}" for scope in scopes for part in ("left_cos", "right_sin")]
        found = find(graph, [*parts, *(f"{scope}/rotated" for scope in scopes)])
        if fits:
            twice: dict[ir.Value, ir.Value] = {}
            for scope in scopes:
                _fuse(graph, scope, found, twice)
            model.opset_imports["npu"] = 1
        return ir.passes.PassResult(model, modified=fits)


def _fuse(
    graph: ir.Graph, scope: str, found: Mapping[str, ir.Node], twice: dict[ir.Value, ir.Value]
) -> None:
    left, cos = (_given(value) for value in found[f"{scope}/left_cos"].inputs)
    sin = _given(found[f"{scope}/right_sin"].inputs[1])
    halves = left.producer()
    assert halves is not None, "a half is cut off"
    x, rotated = _given(halves.inputs[0]), found[f"{scope}/rotated"].outputs[0]
    tables = [_twice(graph, table, twice) for table in (cos, sin)]
    fused = NodeList(graph, scope).add(
        "NPURotaryMul", [x, *tables], "RotaryMul", shape_of(x), domain="npu"
    )
    ir.convenience.replace_all_uses_with(rotated, fused, replace_graph_outputs=True)
    fused.name, rotated.name = rotated.name, fused.name  # that of an output, it may be


def _twice(graph: ir.Graph, table: ir.Value, made: dict[ir.Value, ir.Value]) -> ir.Value:
    """A table for whole heads; made by the first layer that asks."""
    if table not in made:
        *rows, half = shape_of(table)
        made[table] = NodeList(graph, str(table.name)).add(
            "Concat", [table, table], "twice", (*rows, 2 * half), attributes={"axis": -1}
        )
    return made[table]


def _given(value: ir.Value | None) -> ir.Value:
    assert value is not None, "every operand is given"
    return value
