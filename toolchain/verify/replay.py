"""Runs one graph of a bundle over a known sequence and gives the logits that it makes.

Goes to the session directly, so that each graph is exercised whatever the engine would choose.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.manifest import Graph, Phase
from runtime.sessions import Chunk, Session

__all__ = ["replay"]

Rows = NDArray[np.float32]
NumberedRows = Iterator[tuple[int, Rows]]  # the first row's number, logits (n, V)

PREFILL_LENGTHS = 12  # prompts per sequence, evenly spaced in length


def replay(session: Session, graph: Graph, ids: Sequence[int]) -> NumberedRows:
    """Runs a graph over the beginnings of a sequence, as far as it reads cached rows.

    Yields:
        (row, logits): logits (n, V) after the tokens row, row + 1, ..., row + n - 1 of `ids`;
        never after the last token, since nothing is known to follow it.
    """
    cached = graph.spec.cache_len
    return REPLAYS[graph.spec.phase](session, graph, ids[: cached + 1] if cached else ids)


def _prefill(session: Session, graph: Graph, ids: Sequence[int]) -> NumberedRows:
    """Prompts of several lengths, each from its first token; the last row of each counts once."""
    longest = len(ids) if graph.spec.cache_len else min(len(ids), graph.spec.seq_len + 1)
    for length in range(1, longest, max(1, longest // PREFILL_LENGTHS)):
        for chunk in _chunks(graph, ids[:length]):
            logits = session.run(graph, [chunk])
        yield chunk.start + len(chunk.token_ids) - 1, logits


def _score(session: Session, graph: Graph, ids: Sequence[int]) -> NumberedRows:
    """Every row."""
    for chunk in _chunks(graph, ids[:-1]):
        yield chunk.start, session.run(graph, [chunk])[0, : len(chunk.token_ids)]


def _decode(session: Session, graph: Graph, ids: Sequence[int]) -> NumberedRows:
    """Token by token after a filled first half, in the first slot and in the last.

    The last slot is one token behind, and the slots between are idle, so that a batch is run at
    different lengths.
    """
    behind = {slot: int(slot > 0) for slot in {0, graph.spec.batch_size - 1}}
    half = len(ids) // 2
    graphs = [g for g in session.manifest.graphs if g.spec.cache_len]
    fill = next(g for g in graphs if g.spec.phase == "prefill")
    for slot in behind:
        for chunk in _chunks(fill, ids[:half], slot):
            session.run(fill, [chunk])
    for row in range(half, len(ids) - 1):
        rows = [row - late for late in behind.values()]
        chunks = [
            Chunk(slot=slot, start=start, token_ids=[ids[start]])
            for slot, start in zip(behind, rows, strict=True)
        ]
        for start, logits in zip(rows, session.run(graph, chunks), strict=True):
            yield start, logits[None]


REPLAYS: dict[Phase, Callable[[Session, Graph, Sequence[int]], NumberedRows]] = {
    "prefill": _prefill,
    "score": _score,
    "decode": _decode,
}


def _chunks(graph: Graph, ids: Sequence[int], slot: int = 0) -> Iterator[Chunk]:
    """A sequence in pieces of the graph's length; only the first if it takes no cache."""
    spec = graph.spec
    end = len(ids) if spec.cache_len else min(len(ids), spec.seq_len)
    for start in range(0, end, spec.seq_len):
        yield Chunk(slot=slot, start=start, token_ids=ids[start : min(end, start + spec.seq_len)])
