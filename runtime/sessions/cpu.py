"""Runs a bundle compiled for cpu on ONNX Runtime: the cache is updated in place.

Each cache buffer is bound once as input and as output of the attention kernel, which appends the
new rows where `seqlens_k` says. Arrays are bound once per graph and slot and refilled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime import manifest as names
from runtime.bundle import Bundle
from runtime.manifest import Graph, GraphSpec
from runtime.sessions.base import Chunk, Logits, batch_row, token_arrays
from runtime.sessions.onnx_graphs import OnnxGraphs

__all__ = ["SEQLENS_K", "TOTAL_SEQUENCE_LENGTH", "CpuSession"]

# Inputs of com.microsoft.GroupQueryAttention, named as in its schema.
SEQLENS_K = "seqlens_k"  # int32 (B,): rows of each sequence after the run, minus one
TOTAL_SEQUENCE_LENGTH = "total_sequence_length"  # int32 (1,): the longest of them


@dataclass(frozen=True, slots=True)
class BoundGraph:
    """A graph with its arrays bound: fill the inputs, run, read the outputs."""

    session: ort.InferenceSession
    binding: ort.IOBinding
    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]


class CpuSession:
    """Session over graphs whose present_key is the same buffer as past_key."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self.hidden: dict[str, NDArray[np.float32]] = {}
        self._graphs = OnnxGraphs(bundle)
        self._bound: dict[tuple[str, int], BoundGraph] = {}
        model = self.manifest.model
        self._lengths = [0] * self.manifest.num_slots  # rows of each slot that may be valid
        # Rows past cache_len take the padding of a chunk that ends near the last slot.
        rows = self.manifest.cache_len + self.manifest.max_seq_len
        shape = (self.manifest.num_slots, model.num_key_value_heads, rows, model.head_dim)
        self.keys = [np.zeros(shape, np.float32) for _ in range(model.num_hidden_layers)]
        self.values = [np.zeros(shape, np.float32) for _ in range(model.num_hidden_layers)]

    def prepare(self, graph: Graph) -> None:
        """See Session.prepare."""
        self._graphs.open(graph)

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """See Session.run."""
        spec = graph.spec
        bound = self._bind(graph, chunks[0].slot if spec.batch_size == 1 else 0)
        # An idle row of the batch writes where its slot is free, and attends to no more than that.
        input_ids, starts, logit_rows = token_arrays(spec, chunks, self._lengths)
        for chunk in chunks:
            self._lengths[chunk.slot] = chunk.start + len(chunk.token_ids)
        _fill(bound, names.INPUT_IDS, input_ids)
        _fill(bound, names.LOGIT_ROWS, logit_rows)
        _fill(bound, SEQLENS_K, starts + spec.seq_len - 1)
        _fill(bound, TOTAL_SEQUENCE_LENGTH, starts.max(keepdims=True) + spec.seq_len)
        bound.session.run_with_iobinding(bound.binding)
        self.hidden = {k: v for k, v in bound.outputs.items() if k.startswith("hidden.")}
        return bound.outputs[names.LOGITS][_rows(spec, chunks)]

    def _bind(self, graph: Graph, first_slot: int) -> BoundGraph:
        key = (graph.spec.name, first_slot)
        if key not in self._bound:
            slots = slice(first_slot, first_slot + graph.spec.batch_size)
            self._bound[key] = self._bind_arrays(graph, slots)
        return self._bound[key]

    def _bind_arrays(self, graph: Graph, slots: slice) -> BoundGraph:
        caches: dict[str, NDArray[np.float32]] = {}
        for i, (key, value) in enumerate(zip(self.keys, self.values, strict=True)):
            caches[names.past_key(i)] = caches[names.new_key(i)] = key[slots]
            caches[names.past_value(i)] = caches[names.new_value(i)] = value[slots]
        session = self._graphs.open(graph)
        binding = session.io_binding()
        inputs: dict[str, NDArray[Any]] = {}
        outputs: dict[str, NDArray[Any]] = {}
        for bind, tensors, arrays in (
            (binding.bind_input, graph.inputs, inputs),
            (binding.bind_output, graph.outputs, outputs),
        ):
            for tensor in tensors:
                array = caches.get(tensor.name)
                if array is None:
                    array = arrays[tensor.name] = np.zeros(tensor.shape, tensor.dtype)
                bind(tensor.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return BoundGraph(session=session, binding=binding, inputs=inputs, outputs=outputs)

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """See Session.copy_rows."""
        for cache in (*self.keys, *self.values):
            cache[target, :, :num_rows] = cache[source, :, :num_rows]
        self._lengths[target] = num_rows

    def close(self) -> None:
        """Drops the graphs and what is bound to them."""
        self._bound = {}
        self._graphs.close()


def _fill(bound: BoundGraph, name: str, values: NDArray[np.int64]) -> None:
    if name in bound.inputs:
        bound.inputs[name][...] = values


def _rows(spec: GraphSpec, chunks: Sequence[Chunk]) -> slice | list[int]:
    """All rows as a view where that is what was asked, else the chunks' rows."""
    rows = [batch_row(spec, chunk) for chunk in chunks]
    return slice(None) if rows == list(range(spec.batch_size)) else rows
