"""The seam between the engine and a device.

A session owns the cache and one compiled graph family; it knows nothing of sampling or text.
Lengths live above: `start` says how many rows of a slot are valid, so going back to an earlier
length (a rejected draft, a shared prefix) is a smaller `start` and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.manifest import Graph, Manifest

__all__ = ["DEFAULT_OPTIONS", "Chunk", "Session", "SessionOptions", "batch_row", "token_arrays"]

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """New tokens of one sequence: they become rows start, start + 1, ... of a cache slot."""

    slot: int
    start: int
    token_ids: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session is opened.

    trace: directory where closing it leaves the times of all kernels.
    device: which device of the box.
    threads: that compute; None takes `usable_threads`.
    """

    trace: Path | None = None
    device: int = 0
    threads: int | None = None


DEFAULT_OPTIONS = SessionOptions()


class Session(Protocol):
    """Runs one graph of the family over a batch of chunks."""

    manifest: Manifest
    static_shapes: bool
    """Whether a chunk costs as much as the graph's whole seq_len, however short it is."""
    hidden: dict[str, NDArray[np.float32]]
    """Outputs named hidden.{i} of the last run, (B, S, E); empty unless the graphs have them."""

    def prepare(self, graph: Graph) -> None:
        """Loads a graph, so that its first run takes no longer than the next."""
        ...

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """Runs the chunks and writes their rows into the cache.

        A graph of batch size 1 takes any slot. A graph of batch size B > 1 takes slots 0 to
        B - 1, each at most once, and leaves the valid rows of the others alone.

        Args:
            graph: one of `manifest.graphs`.
            chunks: each of 1 to seq_len tokens, with start + len(token_ids) <= cache_len.

        Returns:
            float32 (len(chunks), V): logits of each chunk's last token; from a score graph
            (len(chunks), up to seq_len, V). Valid until the next run.
        """
        ...

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """Copies the first rows of one slot to another, in every layer."""
        ...

    def close(self) -> None:
        """Gives back everything that the device holds for this session."""
        ...


def batch_row(batch_size: int, chunk: Chunk) -> int:
    """Row of the batch that computes a chunk: its slot, or 0 where there is one row only."""
    return chunk.slot if batch_size > 1 else 0


def token_arrays(
    batch_size: int, seq_len: int, chunks: Sequence[Chunk], idle_starts: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Lays chunks out as the graph wants them, padded on the right.

    Args:
        batch_size: sequences that the graph runs.
        seq_len: rows of each.
        chunks: what to run.
        idle_starts: per row of the batch, the position it has where no chunk uses it.

    Returns:
        input_ids (B, S), the first position of each row (B,), and logit_rows (B,): the row of
        the flattened (B * S) that holds the last token.
    """
    input_ids = np.zeros((batch_size, seq_len), np.int64)
    starts = np.array(idle_starts[:batch_size], np.int64)
    logit_rows = np.arange(batch_size, dtype=np.int64) * seq_len
    for chunk in chunks:
        row, length = batch_row(batch_size, chunk), len(chunk.token_ids)
        assert 1 <= length <= seq_len, "the engine cuts chunks to the graph"
        input_ids[row, :length] = chunk.token_ids
        starts[row] = chunk.start
        logit_rows[row] += length - 1
    return input_ids, starts, logit_rows
