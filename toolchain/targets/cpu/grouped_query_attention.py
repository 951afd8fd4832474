"""Attention as one kernel that appends to the cache where it lies."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.expect import find
from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import (
    ATTENTION_KERNEL,
    ROTARY_ANGLES,
    attention_kernels,
    projected,
    projections,
)
from runtime.bundle.rope import attention_factor
from runtime.sessions.onnx.inplace_cache import SEQLENS_K, TOTAL_SEQUENCE_LENGTH
from toolchain.targets.weights import register, streamed

__all__ = ["GroupedQueryAttention", "rotary_tables"]


Table = NDArray[np.float32]


def rotary_tables(frequencies: Table, factor: float, num_positions: int) -> tuple[Table, Table]:
    """Cosine and sine of every rotary angle, times the factor, float32 (num_positions, D / 2)."""
    angles = np.arange(num_positions, dtype=np.float32)[:, None] * frequencies
    scale = np.float32(factor)
    return np.cos(angles) * scale, np.sin(angles) * scale


class GroupedQueryAttention(ir.passes.InPlacePass):
    """Rotation, concatenation, mask, softmax -> com.microsoft.GroupQueryAttention.

    1. What lies between query, key, value and o_proj of a layer becomes one node.
    2. past_key.{i} and key.{i} become one buffer of cache_rows rows, bound to both names.
    3. position_ids and attention_mask give way to seqlens_k and total_sequence_length.
    4. The angles become two tables that all layers and graphs share.

    Expects 4 L projections.
    """

    def __init__(self, config: ModelConfig, cache_rows: int) -> None:
        super().__init__()
        self.config = config
        self.cache_rows = cache_rows

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        graph = model.graph
        batch_size = graph.inputs[0].shape[0]  # type: ignore[index]
        assert isinstance(batch_size, int), "shapes are static"
        num_layers = self.config.num_hidden_layers
        names_of = [[*projected(i, self.config), projections(i)[-1]] for i in range(num_layers)]
        found = find(graph, [name for each in names_of for name in each])
        lengths = [
            _input(SEQLENS_K, ir.DataType.INT32, (batch_size,)),
            _input(TOTAL_SEQUENCE_LENGTH, ir.DataType.INT32, (1,)),
        ]
        tables = self._tables(graph)
        caches: list[ir.Value] = []
        results: list[ir.Value] = []
        for i, kernel in enumerate(attention_kernels(num_layers)):
            past = [self._cache(name(i), batch_size) for name in (names.past_key, names.past_value)]
            products = [found[name] for name in names_of[i]]
            node = self._attention(kernel, products, past, lengths, tables)
            node.outputs[1].name, node.outputs[2].name = names.new_key(i), names.new_value(i)
            caches += past
            results += node.outputs[1:]
        _replace_io(graph, lengths + caches, results)
        return ir.passes.PassResult(model, modified=True)

    def _attention(
        self,
        name: str,
        products: list[ir.Node],
        past: list[ir.Value],
        lengths: list[ir.Value],
        tables: list[ir.Value],
    ) -> ir.Node:
        *qkv, out = products
        node = ir.node(
            ATTENTION_KERNEL,
            [*(product.outputs[0] for product in qkv), *past, *lengths, *tables],
            {
                "num_heads": self.config.num_attention_heads,
                "kv_num_heads": self.config.num_key_value_heads,
                "do_rotary": 1,
            },
            domain="com.microsoft",
            num_outputs=3,
            name=name,
        )
        attended = node.outputs[0]
        old = out.inputs[0]
        assert old is not None, "o_proj has an input"
        attended.name, attended.shape, attended.type = name, old.shape, old.type
        for present, cache in zip(node.outputs[1:], past, strict=True):
            present.shape, present.type = cache.shape, cache.type
        out.replace_input_with(0, attended)
        assert out.graph is not None, "the node is in the graph"
        out.graph.insert_before(out, node)
        return node

    def _cache(self, name: str, batch_size: int) -> ir.Value:
        heads, head_dim = self.config.num_key_value_heads, self.config.head_dim
        return _input(name, ir.DataType.FLOAT, (batch_size, heads, self.cache_rows, head_dim))

    def _tables(self, graph: ir.Graph) -> list[ir.Value]:
        factor = attention_factor(self.config.rope_scaling)
        tables = rotary_tables(_frequencies(graph), factor, self.cache_rows)
        kind = (ir.DataType.FLOAT, tables[0].shape)
        made = streamed({"rotary_emb.cos": kind, "rotary_emb.sin": kind}, lambda: iter([tables]))
        return [register(graph, tensor) for tensor in made]


def _frequencies(graph: ir.Graph) -> Table:
    """What positions are multiplied with in the graph, (D / 2,)."""
    frequencies = find(graph, [ROTARY_ANGLES])[ROTARY_ANGLES].inputs[1]
    assert frequencies is not None, "both factors of a product are given"
    assert frequencies.const_value is not None, "they stand in the graph"
    return frequencies.const_value.numpy()


def _input(name: str, dtype: ir.DataType, shape: tuple[int, ...]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def _replace_io(graph: ir.Graph, added: list[ir.Value], results: list[ir.Value]) -> None:
    """Keeps input_ids, logit_rows and logits; the rest is what attention now takes and gives."""
    old_outputs = list(graph.outputs)
    graph.outputs.clear()
    for value in old_outputs[1:]:  # the old new rows give up their names
        value.name = f"{value.name}.rows"
    graph.outputs.extend([old_outputs[0], *results])
    kept = [v for v in graph.inputs if v.name in (names.INPUT_IDS, names.LOGIT_ROWS)]
    graph.inputs.clear()
    graph.inputs.extend([*kept, *added])
