"""What a layer's attention is made of, and the ends that every way of computing it has in common.

Shape suffixes: B batch, S new rows, C cached rows, T = C + S, H heads, G key/value heads,
R = H / G, D head_dim. Runs after rows_first_cache, so a row of the cache lies whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from export.expect import find
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import attention, projected, projections
from runtime.bundle.rope import attention_factor
from runtime.bundle.tensor_names import (
    ATTENTION_MASK,
    new_key,
    new_value,
    past_key,
    past_value,
)
from toolchain.targets.ascend.graph_edit import NodeList, cache_inputs, shape_of, shared

__all__ = ["Attention", "Sizes", "find_attentions", "half_mask", "sizes_of"]

# Cosines and sines, float32 (B, 1, S, D / 2): as they are, or after the factor of YaRN.
TABLES = {"Cos": "rotary_emb/Cos", "Sin": "rotary_emb/Sin"}
SCALED = {"Cos": "rotary_emb/Mul_1", "Sin": "rotary_emb/Mul_2"}
FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of the tensors of attention; the names are those of the shape suffixes."""

    batch: int  # B
    rows: int  # S
    cached: int  # C
    heads: int  # H
    groups: int  # G
    head_dim: int  # D


def sizes_of(graph: ir.Graph, config: ModelConfig) -> Sizes:
    """The sizes in a graph of the family."""
    [mask] = find(graph.inputs, [ATTENTION_MASK]).values()
    batch, _, rows, columns = shape_of(mask)
    return Sizes(
        batch=batch,
        rows=rows,
        cached=columns - rows,
        heads=config.num_attention_heads,
        groups=config.num_key_value_heads,
        head_dim=config.head_dim,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """The attention of a layer, cut out of its graph.

    nodes: adds to its scope.
    query: (B, S, H, D), rotated and scaled.
    key: (B, S, G, D), rotated.
    value: (B, S, G, D).
    past: cached keys and values, (B, C, G, D) each; none in a graph without a cache.
    reader: the projection of the result.
    """

    nodes: NodeList
    query: ir.Value
    key: ir.Value
    value: ir.Value
    past: tuple[ir.Value, ir.Value] | None
    reader: ir.Node

    def finish(self, out_BSE: ir.Value) -> None:
        """Gives the result to its reader; what it had before is left without one."""
        self.reader.replace_input_with(0, out_BSE)


def find_attentions(graph: ir.Graph, config: ModelConfig) -> Iterator[Attention]:
    """Every layer's attention; key.{i} and value.{i} are given anew, as they are read here.

    Raises:
        NodesError: a projection, the rotary tables, a cache or new rows are not found.
    """
    layers, sizes = range(config.num_hidden_layers), sizes_of(graph, config)
    names = [[*projected(i, config), projections(i)[-1]] for i in layers]
    linear = find(graph, [name for each in names for name in each])
    cache = find(graph.inputs, cache_inputs(graph, config.num_hidden_layers))
    written = find(graph.outputs, [name(i) for i in layers for name in (new_key, new_value)])
    tables = _tables(graph, sizes, TABLES if attention_factor(config.rope_scaling) == 1 else SCALED)
    for i in layers:
        q, k, v, reader = (linear[name] for name in names[i])
        nodes = NodeList(graph, attention(i))
        parts = {
            name: _rotated(nodes, name, node.outputs[0], heads, sizes, tables[name])
            for name, node, heads in (("query", q, sizes.heads), ("key", k, sizes.groups))
        }
        values = _by_head(nodes, "value", v.outputs[0], sizes.groups, sizes)
        _write(graph, written[new_key(i)], parts["key"])
        _write(graph, written[new_value(i)], values)
        yield Attention(
            nodes=nodes,
            query=parts["query"],
            key=parts["key"],
            value=values,
            past=(cache[past_key(i)], cache[past_value(i)]) if cache else None,
            reader=reader,
        )


def half_mask(graph: ir.Graph) -> ir.Value:
    """The mask in float16, (B, 1, S, T); its lowest number is the lowest that float16 has."""
    [mask] = find(graph.inputs, [ATTENTION_MASK]).values()
    nodes = NodeList(graph, ATTENTION_MASK)
    return nodes.add("Cast", [mask], "half", shape_of(mask), attributes={"to": ir.DataType.FLOAT16})


Tables = tuple[ir.Value, ir.Value]  # cosines and sines, float16 (1, B * S, 1, D / 2)


def _tables(graph: ir.Graph, sizes: Sizes, names: Mapping[str, str]) -> dict[str, Tables]:
    """Those of the query are scaled by 1 / sqrt(D), in float32, so that the scores need not be."""
    found = find(graph, list(names.values()))
    nodes = NodeList(graph, "rotary_emb")
    shape = (1, sizes.batch * sizes.rows, 1, sizes.head_dim // 2)
    open_rows = (1, -1, 1, sizes.head_dim // 2)
    scale = shared(graph, "rotary_emb.scale", np.array(sizes.head_dim**-0.5, np.float32))

    def table(of: str, part: str) -> ir.Value:
        rows = found[names[part]].outputs[0]
        wide = nodes.reshape(rows, f"{of}.{part}.rows", shape, open_rows)
        if of == "query":
            wide = nodes.add("Mul", [wide, scale], f"{of}.{part}.scaled", shape, dtype=FLOAT)
        to = {"to": ir.DataType.FLOAT16}
        return nodes.add("Cast", [wide], f"{of}.{part}", shape, attributes=to)

    return {of: (table(of, "Cos"), table(of, "Sin")) for of in ("query", "key")}


def _by_head(nodes: NodeList, name: str, x_BSE: ir.Value, num_heads: int, sizes: Sizes) -> ir.Value:
    """(B, S, N * D) as (B, S, N, D)."""
    shape = (sizes.batch, sizes.rows, num_heads, sizes.head_dim)
    return nodes.reshape(x_BSE, name, shape, (sizes.batch, -1, *shape[2:]))


def _rotated(
    nodes: NodeList, name: str, x_BSE: ir.Value, num_heads: int, sizes: Sizes, tables: Tables
) -> ir.Value:
    """Rotates the pairs (i, i + D / 2) of every head: (B, S, N * D) -> (B, S, N, D).

    All sequences' rows follow each other, so that the tables have the one shape that RotaryMul
    takes on every chip, (1, S, 1, D).
    """
    half = sizes.head_dim // 2
    rows = (1, sizes.batch * sizes.rows, num_heads, sizes.head_dim)
    x = nodes.reshape(x_BSE, f"{name}/rows", rows, (1, -1, *rows[2:]))
    left, right = nodes.split(x, [f"{name}/left", f"{name}/right"], 3, [half, half])
    shape, (cos, sin) = (*rows[:3], half), tables

    def product(of: ir.Value, factor: ir.Value, part: str) -> ir.Value:
        return nodes.add("Mul", [of, factor], f"{name}/{part}", shape)

    parts = [
        nodes.add(
            "Sub",
            [product(left, cos, "left_cos"), product(right, sin, "right_sin")],
            f"{name}/new_left",
            shape,
        ),
        nodes.add(
            "Add",
            [product(right, cos, "right_cos"), product(left, sin, "left_sin")],
            f"{name}/new_right",
            shape,
        ),
    ]
    rotated = nodes.add("Concat", parts, f"{name}/rotated", rows, attributes={"axis": -1})
    by_head = (sizes.batch, sizes.rows, *rows[2:])
    return nodes.reshape(rotated, name, by_head, (sizes.batch, -1, *rows[2:]))


def _write(graph: ir.Graph, output: ir.Value, rows_BSGD: ir.Value) -> None:
    """Makes these the new rows that the graph gives."""
    name, position = output.name, list(graph.outputs).index(output)
    output.name = f"{name}/portable"
    rows_BSGD.name = name
    graph.outputs[position] = rows_BSGD
