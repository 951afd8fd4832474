"""Runs an exported bundle's portable graphs on ONNX Runtime, as they are.

This is the reference for every target whose graphs return new rows: the mask is built here and
the rows are written into the cache by numpy slice assignment.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import Graph, GraphSpec
from runtime.bundle.reader import Bundle
from runtime.sessions.attention_mask import attention_mask
from runtime.sessions.base import (
    DEFAULT_OPTIONS,
    Chunk,
    Logits,
    SessionOptions,
    batch_row,
    token_arrays,
)
from runtime.sessions.cache_memory import CacheMemory
from runtime.sessions.onnx.failures import named_failures
from runtime.sessions.onnx.graphs import OnnxGraphs

__all__ = ["PortableSession"]


class PortableSession:
    """Session over graphs with `past_key.{i}` in and `key.{i}` (new rows) out."""

    static_shapes = True

    def __init__(self, bundle: Bundle, options: SessionOptions = DEFAULT_OPTIONS) -> None:
        self.manifest = bundle.manifest
        self.hidden: dict[str, NDArray[np.float32]] = {}
        self._graphs = OnnxGraphs(bundle, options)
        model = self.manifest.model
        shape = (
            model.num_hidden_layers,
            self.manifest.num_slots,
            model.num_key_value_heads,
            self.manifest.cache_len,
            model.head_dim,
        )
        dtype = self.manifest.cache_dtype
        self.keys = CacheMemory(shape, dtype).array  # (L, slots, G, C, D)
        self.values = CacheMemory(shape, dtype).array

    def prepare(self, graph: Graph) -> None:
        """See Session.prepare."""
        self._graphs.open(graph)

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """See Session.run."""
        spec = graph.spec
        input_ids, starts, logit_rows = token_arrays(
            spec.batch_size, spec.seq_len, chunks, [0] * spec.batch_size
        )
        available: dict[str, NDArray[np.generic]] = {
            names.INPUT_IDS: input_ids,
            names.POSITION_IDS: starts[:, None] + np.arange(spec.seq_len),
            names.ATTENTION_MASK: attention_mask(spec, starts),
            names.LOGIT_ROWS: logit_rows,
        }
        first = chunks[0].slot if spec.batch_size == 1 else 0
        slots = slice(first, first + spec.batch_size)
        for i in range(self.manifest.model.num_hidden_layers):
            available[names.past_key(i)] = self.keys[i, slots]
            available[names.past_value(i)] = self.values[i, slots]
        feeds = {tensor.name: available[tensor.name] for tensor in graph.inputs}
        fetch = [tensor.name for tensor in graph.outputs]
        session = self._graphs.open(graph)
        with named_failures(graph, "run"):
            outputs = dict(zip(fetch, session.run(fetch, feeds), strict=True))
        self._write_rows(spec, chunks, outputs)
        self.hidden = {k: v for k, v in outputs.items() if k.startswith("hidden.")}
        logits: Logits = outputs[names.LOGITS]
        return logits[[batch_row(spec.batch_size, chunk) for chunk in chunks]]

    def _write_rows(
        self, spec: GraphSpec, chunks: Sequence[Chunk], outputs: dict[str, NDArray[Any]]
    ) -> None:
        for chunk in chunks:
            row, length = batch_row(spec.batch_size, chunk), len(chunk.token_ids)
            rows = slice(chunk.start, chunk.start + length)
            for i in range(self.manifest.model.num_hidden_layers):
                self.keys[i, chunk.slot, :, rows] = outputs[names.new_key(i)][row, :, :length]
                self.values[i, chunk.slot, :, rows] = outputs[names.new_value(i)][row, :, :length]

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """See Session.copy_rows."""
        for cache in (self.keys, self.values):
            cache[:, target, :, :num_rows] = cache[:, source, :, :num_rows]

    def close(self) -> None:
        """Drops the graphs."""
        self._graphs.close()
