"""Attention of many new rows: cached and new rows are joined, and turned once.

Shape suffixes as in attention_parts.py.
"""

import onnx_ir as ir

from toolchain.targets.ascend.attention_parts import Attention, Sizes

__all__ = ["attend_joined"]


def attend_joined(attention: Attention, sizes: Sizes, mask: ir.Value) -> ir.Value:
    """The result of all heads, (B, S, H * D); the mask is (B, 1, S, T).

    1. Cached and new rows are joined while a row lies whole: 2 T G D numbers are copied. To join
       and cut scores instead would copy 2 T S H, which is more where S is not small.
    2. Keys are turned once, (B, T, G, D) -> (B, G, D, T), and so are the values.
    3. Mask and softmax are float16.

    Every Reshape leaves the rows to be worked out, so it holds for any number of them.
    """
    nodes, batch, rows = attention.nodes, sizes.batch, sizes.rows
    total, size = sizes.cached + rows, sizes.head_dim
    by_head = (batch, sizes.heads, rows)
    by_group = (batch, sizes.groups, sizes.heads // sizes.groups * rows)  # R heads as rows
    keys_BTGD, values_BTGD = _joined_rows(attention, sizes)

    def grouped(x: ir.Value, name: str, width: int, written: int) -> ir.Value:
        return nodes.reshape(x, name, (*by_group, width), (*by_group[:2], -1, written))

    def per_head(x: ir.Value, name: str, width: int, written: int) -> ir.Value:
        return nodes.reshape(x, name, (*by_head, width), (*by_head[:2], -1, written))

    query = nodes.transpose(attention.query, "query/by_head", (0, 2, 1, 3))
    columns = nodes.transpose(keys_BTGD, "keys/columns", (0, 2, 3, 1))
    scores = nodes.add(
        "MatMul",
        [grouped(query, "query/grouped", size, size), columns],
        "scores",
        (*by_group, total),
    )
    masked = nodes.add(
        "Add",
        [per_head(scores, "scores/by_head", total, 0), mask],
        "scores/masked",
        (*by_head, total),
    )
    weights = nodes.add("Softmax", [masked], "weights", (*by_head, total), attributes={"axis": -1})
    values = nodes.transpose(values_BTGD, "values/by_group", (0, 2, 1, 3))
    out = nodes.add(
        "MatMul",
        [grouped(weights, "weights/grouped", total, 0), values],
        "products",
        (*by_group, size),
    )
    turned = nodes.transpose(per_head(out, "out/by_head", size, size), "out/by_row", (0, 2, 1, 3))
    width = sizes.heads * size
    return nodes.reshape(turned, "out", (batch, rows, width), (batch, -1, width))


def _joined_rows(attention: Attention, sizes: Sizes) -> list[ir.Value]:
    """Keys and values, (B, T, G, D)."""
    shape = (sizes.batch, sizes.cached + sizes.rows, sizes.groups, sizes.head_dim)
    new = (attention.key, attention.value)
    if attention.past is None:
        return list(new)
    return [
        attention.nodes.add("Concat", pair, f"{name}/joined", shape, attributes={"axis": 1})
        for name, *pair in zip(("keys", "values"), attention.past, new, strict=True)
    ]
