"""Attention of few new rows: reads the cache once, as it lies.

A 310P takes the right operand of a product in its own layout only (ops-nn, mat_mul_v3_def.cpp: x2
in FRACTAL_NZ), so a cache on the right is transposed and converted whole, in every layer for every
token. On the left it may lie as it is, (C, G * D): scores are K @ q^T, results V^T @ p^T.

Shape suffixes as in attention_parts.py.
"""

import numpy as np
import onnx_ir as ir

from runtime.bundle.tensor_names import ATTENTION_MASK
from toolchain.targets.ascend.attention_parts import Attention, Sizes
from toolchain.targets.ascend.graph_edit import NodeList, shape_of, shared

__all__ = ["attend_on_the_left", "turned_mask"]


def attend_on_the_left(attention: Attention, sizes: Sizes, mask: ir.Value) -> ir.Value:
    """The result of all heads, (B, S, H * D); the graph has a cache, and the mask is (B, T, S, 1).

    1. The query becomes a block diagonal (G * D, S * H): head h has numbers in the rows of its own
       group, zeros elsewhere, so one product gives the scores of all heads, (T, S * H).
    2. Mask and softmax over the rows, in float16.
    3. A product with the values gives every head the values of all groups, (G * D, S * H). It is a
       Gemm, whose transA says what MatMul cannot. Of several sequences the probabilities are a
       block diagonal too, so that each meets its own rows only.
    4. The values of other groups are set to zero; the sum over the groups leaves the head's own.

    One new row a sequence is not worth the diagonal, which is larger than the row: each group
    multiplies its own.
    """
    assert attention.past is not None, "there is a cache"
    nodes, (keys, values) = attention.nodes, attention.past
    query = _block_diagonal(attention, sizes)
    one = sizes.rows == 1
    new = _row_scores(attention, sizes) if one else _scores(nodes, attention.key, query, sizes)
    scores = [_scores(nodes, keys, query, sizes, "past"), new]
    past_weights, new_weights = _softmax(nodes, scores, mask, sizes)
    past = _results(nodes, values, past_weights, sizes, "past")
    if one:
        parts = [_own_group(nodes, past, sizes), _row_results(attention, new_weights, sizes)]
        return nodes.add("Add", parts, "out/both", shape_of(parts[0]))
    parts = [past, _results(nodes, attention.value, new_weights, sizes)]
    every = nodes.add("Add", parts, "every_group", shape_of(parts[0]))
    return _own_group(nodes, every, sizes)


def turned_mask(graph: ir.Graph, mask_B1ST: ir.Value) -> ir.Value:
    """The mask as it is added here, (B, T, S, 1)."""
    return NodeList(graph, ATTENTION_MASK).transpose(mask_B1ST, "by_row", (0, 3, 2, 1))


def _columns(sizes: Sizes) -> int:
    return sizes.rows * sizes.heads


def _width(sizes: Sizes) -> int:
    return sizes.groups * sizes.head_dim


def _blocks(graph: ir.Graph, sizes: Sizes) -> ir.Value:
    """1 where a head belongs to a group, else 0: float16 (G, 1, H)."""
    group = np.arange(sizes.heads) // (sizes.heads // sizes.groups)
    blocks = group[None, None] == np.arange(sizes.groups)[:, None, None]
    return shared(graph, "attention.blocks", blocks.astype(np.float16))


def _block_diagonal(attention: Attention, sizes: Sizes) -> ir.Value:
    """The query of every head in the rows of its group, (B, G * D, S * H)."""
    nodes, size = attention.nodes, sizes.head_dim
    turned_BDSH = nodes.transpose(attention.query, "query/turned", (0, 3, 1, 2))
    once = (sizes.batch, 1, size * sizes.rows, sizes.heads)
    spread = nodes.add(
        "Mul",
        [nodes.reshape(turned_BDSH, "query/once", once), _blocks(nodes.graph, sizes)],
        "query/blocks",
        (once[0], sizes.groups, *once[2:]),
    )
    return nodes.reshape(spread, "query/diagonal", (sizes.batch, _width(sizes), _columns(sizes)))


def _row_scores(attention: Attention, sizes: Sizes) -> ir.Value:
    """Of one new row a sequence, (B, 1, H)."""
    nodes, batch, groups, size = attention.nodes, sizes.batch, sizes.groups, sizes.head_dim
    shared_heads = sizes.heads // groups
    query = nodes.reshape(attention.query, "query/grouped", (batch, groups, shared_heads, size))
    key = nodes.reshape(attention.key, "key/columns", (batch, groups, size, 1))
    scores = nodes.add("MatMul", [query, key], "new_scores", (batch, groups, shared_heads, 1))
    return nodes.reshape(scores, "new_scores/row", (batch, 1, sizes.heads))


def _row_results(attention: Attention, weights_B1H: ir.Value, sizes: Sizes) -> ir.Value:
    """What each head reads of one new row a sequence, (B, 1, H * D)."""
    nodes, batch, groups, size = attention.nodes, sizes.batch, sizes.groups, sizes.head_dim
    shared_heads = sizes.heads // groups
    factors = [
        nodes.reshape(weights_B1H, "new_weights/grouped", (batch, groups, shared_heads, 1)),
        nodes.reshape(attention.value, "value/grouped", (batch, groups, 1, size)),
    ]
    out = nodes.add("Mul", factors, "new_out", (batch, groups, shared_heads, size))
    return nodes.reshape(out, "new_out/row", (batch, 1, sizes.heads * size))


def _scores(
    nodes: NodeList, keys_BCGD: ir.Value, query: ir.Value, sizes: Sizes, part: str = "new"
) -> ir.Value:
    """(B, rows of this part, S * H)."""
    rows = shape_of(keys_BCGD)[1]
    keys = nodes.reshape(keys_BCGD, f"{part}_keys", (sizes.batch, rows, _width(sizes)))
    shape = (sizes.batch, rows, _columns(sizes))
    return nodes.add("MatMul", [keys, query], f"{part}_scores", shape)


def _softmax(
    nodes: NodeList, parts: list[ir.Value], mask_BTS1: ir.Value, sizes: Sizes
) -> list[ir.Value]:
    """The probabilities of cached and of new rows, (B, C, S * H) and (B, S, S * H)."""
    total = sizes.cached + sizes.rows
    joined = (sizes.batch, total, _columns(sizes))
    by_head = (sizes.batch, total, sizes.rows, sizes.heads)
    scores = nodes.add("Concat", parts, "scores", joined, attributes={"axis": 1})
    masked = nodes.add(
        "Add",
        [nodes.reshape(scores, "scores/by_head", by_head), mask_BTS1],
        "scores/masked",
        by_head,
    )
    weights = nodes.add(
        "Softmax",
        [nodes.reshape(masked, "scores/joined", joined)],
        "weights",
        joined,
        attributes={"axis": 1},
    )
    return nodes.split(weights, ["past_weights", "new_weights"], 1, [sizes.cached, sizes.rows])


def _results(
    nodes: NodeList, values_BCGD: ir.Value, weights: ir.Value, sizes: Sizes, part: str = "new"
) -> ir.Value:
    """What each head reads of every group in this part, (G * D, B * S * H)."""
    batch, rows = shape_of(values_BCGD)[:2]
    width, columns = _width(sizes), batch * _columns(sizes)
    values = nodes.reshape(values_BCGD, f"{part}_values", (batch * rows, width))
    if batch > 1:
        own = np.eye(batch, dtype=np.float16)[:, None, :, None]
        once = nodes.reshape(weights, f"{part}_weights/once", (batch, rows, 1, _columns(sizes)))
        weights = nodes.add(
            "Mul",
            [once, shared(nodes.graph, "attention.sequences", own)],
            f"{part}_weights/own",
            (batch, rows, batch, _columns(sizes)),
        )
    weights = nodes.reshape(weights, f"{part}_weights/flat", (batch * rows, columns))
    attributes = {"transA": 1}
    return nodes.add(
        "Gemm", [values, weights], f"{part}_out", (width, columns), attributes=attributes
    )


def _own_group(nodes: NodeList, every: ir.Value, sizes: Sizes) -> ir.Value:
    """(G * D, B * S * H) -> (B, S, H * D): of each head the rows of its own group."""
    groups, size, num_rows = sizes.groups, sizes.head_dim, sizes.batch * sizes.rows
    by_group = (groups, size * num_rows, sizes.heads)
    own = nodes.add(
        "Mul",
        [nodes.reshape(every, "out/by_group", by_group), _blocks(nodes.graph, sizes)],
        "out/own",
        by_group,
    )
    shared_heads = sizes.heads // groups  # R, heads of a group
    parted = (*by_group[:2], groups, shared_heads)
    axis = shared(nodes.graph, "attention.groups_axis", np.array([2], np.int64))
    summed = nodes.add(
        "ReduceSum",
        [nodes.reshape(own, "out/parted", parted), axis],
        "out/summed",
        (*by_group[:2], shared_heads),
        attributes={"keepdims": 0},
    )
    ordered = nodes.reshape(summed, "out/turned", (groups, size, num_rows, shared_heads))
    if num_rows * shared_heads > 1:
        ordered = nodes.transpose(ordered, "out/by_row", (2, 0, 3, 1))
    return nodes.reshape(ordered, "out", (sizes.batch, sizes.rows, sizes.heads * size))
