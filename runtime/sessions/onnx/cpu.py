"""Runs a bundle compiled for cpu on ONNX Runtime: the cache is updated in place.

One graph computes the whole family, since its dimensions are open, so the weights are packed once
and a chunk costs what it has rows, not what the graph's seq_len is. Each cache buffer is bound as
input and as output of the attention kernel, which appends the new rows where `seqlens_k` says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import Graph
from runtime.bundle.reader import Bundle
from runtime.sessions.base import (
    DEFAULT_OPTIONS,
    Chunk,
    Logits,
    SessionOptions,
    batch_row,
    token_arrays,
)
from runtime.sessions.cache_memory import HUGE_PAGE, CacheMemory
from runtime.sessions.onnx.failures import named_failures
from runtime.sessions.onnx.graphs import OnnxGraphs
from runtime.sessions.onnx.inplace_cache import SEQLENS_K, TOTAL_SEQUENCE_LENGTH, cache_rows
from runtime.sessions.onnx.quiet_ort import ort

__all__ = ["CpuSession"]


@dataclass(frozen=True, slots=True)
class Bound:
    """Arrays bound to the graph: fill the inputs, run, read the outputs."""

    binding: ort.IOBinding
    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]


class CpuSession:
    """Session over one graph whose present_key is the same buffer as past_key."""

    static_shapes = False

    def __init__(self, bundle: Bundle, options: SessionOptions = DEFAULT_OPTIONS) -> None:
        self.manifest = bundle.manifest
        self.hidden: dict[str, NDArray[np.float32]] = {}
        self._graphs = OnnxGraphs(bundle, options)
        self._bound: dict[tuple[int, int, int, int], Bound] = {}
        model = self.manifest.model
        self._lengths = [0] * self.manifest.num_slots  # rows of each slot that may be valid
        rows = cache_rows(self.manifest.cache_len)
        shape = (self.manifest.num_slots, model.num_key_value_heads, rows, model.head_dim)
        dtype = self.manifest.cache_dtype
        layers = range(model.num_hidden_layers)
        keys, values = ([CacheMemory(shape, dtype) for _ in layers] for _ in range(2))
        self.keys, self.values = ([each.array for each in part] for part in (keys, values))
        # A quarter of a slot is long: then huge pages are worth their memory. Where a head has
        # several, those that no row was in yet would be cleared while one waits, so never.
        one_each = self.keys[0][0, 0].nbytes <= HUGE_PAGE
        self._short_rows = self.manifest.cache_len // 4 if one_each else self.manifest.cache_len
        self._memory, self._long = [*keys, *values], set[int]()  # slots that had a long sequence

    def prepare(self, graph: Graph) -> None:
        """See Session.prepare."""
        self._graphs.open(graph)

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """See Session.run."""
        spec = graph.spec
        seq_len = max(len(chunk.token_ids) for chunk in chunks)
        # Dimensions are open: rows of the batch beyond the highest slot are not computed.
        batch_size = max(batch_row(spec.batch_size, chunk) for chunk in chunks) + 1
        # An idle row of the batch writes where its slot is free, and attends to no more than that.
        input_ids, starts, logit_rows = token_arrays(batch_size, seq_len, chunks, self._lengths)
        if spec.phase == "score":
            logit_rows = np.arange(batch_size * seq_len)
        for chunk in chunks:
            self._lengths[chunk.slot] = chunk.start + len(chunk.token_ids)
            self._expect_reading(chunk.slot)
        first_slot = chunks[0].slot if spec.batch_size == 1 else 0
        bound = self._bind(graph, first_slot, batch_size, seq_len, len(logit_rows))
        bound.inputs[names.INPUT_IDS][...] = input_ids
        bound.inputs[names.LOGIT_ROWS][...] = logit_rows
        bound.inputs[SEQLENS_K][...] = starts + seq_len - 1
        bound.inputs[TOTAL_SEQUENCE_LENGTH][...] = starts.max() + seq_len
        session = self._graphs.open(graph)
        with named_failures(graph, "run"):
            session.run_with_iobinding(bound.binding)
        self.hidden = {k: v for k, v in bound.outputs.items() if k.startswith("hidden.")}
        logits: Logits = bound.outputs[names.LOGITS]
        if spec.phase == "score":
            logits = logits.reshape(batch_size, seq_len, -1)
        rows = [batch_row(spec.batch_size, chunk) for chunk in chunks]
        # All rows as a view where that is what was asked.
        return logits if rows == list(range(batch_size)) else logits[rows]

    def _expect_reading(self, slot: int) -> None:
        """Says that the rows of a slot are read much, once a sequence there is long."""
        if self._lengths[slot] > self._short_rows and slot not in self._long:
            self._long.add(slot)
            for memory in self._memory:
                memory.expect_reading(slot)

    def _bind(
        self, graph: Graph, first_slot: int, batch_size: int, seq_len: int, num_rows: int
    ) -> Bound:
        """Binds arrays of these sizes; those of decoding, which come back each token, are kept."""
        key = (first_slot, batch_size, seq_len, num_rows)
        if key in self._bound:
            return self._bound[key]
        model = self.manifest.model
        inputs: dict[str, NDArray[Any]] = {
            names.INPUT_IDS: np.zeros((batch_size, seq_len), np.int64),
            names.LOGIT_ROWS: np.zeros(num_rows, np.int64),
            SEQLENS_K: np.zeros(batch_size, np.int32),
            TOTAL_SEQUENCE_LENGTH: np.zeros(1, np.int32),
        }
        outputs: dict[str, NDArray[Any]] = {
            names.LOGITS: np.zeros((num_rows, model.vocab_size), np.float32)
        }
        for tensor in graph.outputs:
            if tensor.name.startswith("hidden."):
                shape = (batch_size, seq_len, model.hidden_size)
                outputs[tensor.name] = np.zeros(shape, np.float32)
        slots = slice(first_slot, first_slot + batch_size)
        caches: dict[str, NDArray[Any]] = {}
        presents: dict[str, NDArray[Any]] = {}
        for i, (key_rows, value_rows) in enumerate(zip(self.keys, self.values, strict=True)):
            caches[names.past_key(i)] = presents[names.new_key(i)] = key_rows[slots]
            caches[names.past_value(i)] = presents[names.new_value(i)] = value_rows[slots]
        binding = self._graphs.open(graph).io_binding()
        with named_failures(graph, "run"):
            for bind, arrays in (
                (binding.bind_input, inputs | caches),
                (binding.bind_output, outputs | presents),
            ):
                for name, array in arrays.items():
                    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        bound = Bound(binding=binding, inputs=inputs, outputs=outputs)
        if seq_len == 1:
            self._bound[key] = bound
        return bound

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """See Session.copy_rows."""
        for cache in (*self.keys, *self.values):
            cache[target, :, :num_rows] = cache[source, :, :num_rows]
        self._lengths[target] = num_rows

    def close(self) -> None:
        """Drops the graph and what is bound to it."""
        self._bound = {}
        self._graphs.close()
