"""Positions and mask made in the graph, from how many rows each sequence has already.

Shape suffixes: B batch, S new rows, C cached rows, T = C + S.
"""

import numpy as np
import onnx_ir as ir

from export.expect import find
from runtime.bundle.tensor_names import ATTENTION_MASK, POSITION_IDS, START
from runtime.sessions.attention_mask import MASKED
from toolchain.targets.ascend.graph_edit import NodeList, shape_of, shared

__all__ = ["StartInput"]

# Rows are counted in float32, which every chip compares; exact below 2^24.
FLOAT, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.BOOL


class StartInput(ir.passes.InPlacePass):
    """position_ids (B, S) and attention_mask (B, 1, S, T) -> start, int64 (B,).

    1. Positions are start + 0, 1, ..., S - 1.
    2. A cached row is seen where its number is below start; which new rows are seen is a constant.
    3. Both are made in the type that the graph casts them to.
    4. Without a cache a sequence begins at 0: both are constants, and there is no start.

    Expects the two inputs. Runs last, since other passes read the sizes off the mask.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        graph = model.graph
        given = find(graph.inputs, [POSITION_IDS, ATTENTION_MASK])
        positions, mask = (_as_read(given[name]) for name in (POSITION_IDS, ATTENTION_MASK))
        batch, _, rows, columns = shape_of(mask)
        numbers = np.tile(np.arange(rows, dtype=np.float32), (batch, 1))
        hidden = np.triu(np.full((batch, 1, rows, rows), MASKED), k=1)
        steps = shared(graph, "start.steps", numbers)
        new_rows = shared(graph, "start.new_rows", hidden.astype(_dtype(mask).numpy()))
        if columns == rows:
            made = steps, new_rows
        else:
            start = ir.Value(name=START, shape=ir.Shape([batch]), type=ir.TensorType(INT64))
            graph.inputs.insert(1, start)  # behind the ids
            made = _from_start(NodeList(graph, START), start, steps, new_rows, columns - rows)
        for old, new in zip((positions, mask), made, strict=True):
            ir.convenience.replace_all_uses_with(old, new)
        for value in given.values():
            graph.inputs.remove(value)
        return ir.passes.PassResult(model, modified=True)


def _as_read(value: ir.Value) -> ir.Value:
    """What a cast makes of an input, or the input; other readers of one that is cast are dead."""
    casts = (reader for reader, _ in value.uses() if reader.op_type == "Cast")
    return next((cast.outputs[0] for cast in casts), value)


def _from_start(
    nodes: NodeList, start_B: ir.Value, steps_BS: ir.Value, new_rows_B1SS: ir.Value, cached: int
) -> tuple[ir.Value, ir.Value]:
    """Positions (B, S) and mask (B, 1, S, T)."""
    batch, _, rows, _ = shape_of(new_rows_B1SS)
    counted = nodes.add("Cast", [start_B], "rows", [batch], dtype=FLOAT, attributes={"to": FLOAT})
    first = nodes.reshape(counted, "first", (batch, 1))
    positions = nodes.add("Add", [first, steps_BS], "positions", (batch, rows), dtype=FLOAT)
    cached_rows = _cached_rows(nodes, counted, cached, _dtype(new_rows_B1SS))
    if rows > 1:
        shape = (batch, 1, rows, cached)
        spread = shared(nodes.graph, f"{START}.spread", np.array(shape, np.int64))
        cached_rows = nodes.add(
            "Expand", [cached_rows, spread], "spread", shape, dtype=_dtype(new_rows_B1SS)
        )
    mask = nodes.add(
        "Concat",
        [cached_rows, new_rows_B1SS],
        "mask",
        (batch, 1, rows, cached + rows),
        dtype=_dtype(new_rows_B1SS),
        attributes={"axis": 3},
    )
    return positions, mask


def _cached_rows(nodes: NodeList, counted_B: ir.Value, cached: int, dtype: ir.DataType) -> ir.Value:
    """What the mask has for the cached rows, (B, 1, 1, C)."""
    graph, shape = nodes.graph, (*shape_of(counted_B), 1, 1, cached)
    numbers = shared(graph, f"{START}.numbers", np.arange(cached, dtype=np.float32))
    end = nodes.reshape(counted_B, "end", (shape[0], 1, 1, 1))
    seen = nodes.add("Less", [numbers, end], "seen", shape, dtype=BOOL)
    choice = [
        shared(graph, f"{START}.{name}", np.array(number, dtype.numpy()))
        for name, number in (("shown", 0), ("hidden", MASKED))
    ]
    return nodes.add("Where", [seen, *choice], "cached_rows", shape, dtype=dtype)


def _dtype(value: ir.Value) -> ir.DataType:
    assert value.dtype is not None, "every value of a portable graph is typed"
    return value.dtype
