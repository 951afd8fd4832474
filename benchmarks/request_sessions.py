"""Sessions that many_requests.py measures with: one whose text is given, one that costs nothing."""

from collections.abc import Sequence

import numpy as np

from runtime.bundle.manifest import Graph, Manifest
from runtime.sessions.base import Chunk, Logits, Session

__all__ = ["Given", "Nothing"]


class Given:
    """A session that computes everything, and then makes the next token of a text the likeliest."""

    def __init__(self, session: Session, text: Sequence[int]) -> None:
        self.manifest, self.static_shapes = session.manifest, session.static_shapes
        self.hidden = session.hidden
        self._session, self._text = session, text
        self.prepare, self.copy_rows = session.prepare, session.copy_rows
        self.close = session.close

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """See Session.run."""
        logits = self._session.run(graph, chunks)
        for chunk, rows in zip(chunks, logits, strict=True):
            last = chunk.start + len(chunk.token_ids)
            if graph.spec.phase == "score":
                for i in range(len(chunk.token_ids)):
                    rows[i, self._text[chunk.start + i + 1]] = 1e4
            else:
                rows[self._text[last]] = 1e4
        return logits


class Nothing:
    """A session of few ids that computes nothing."""

    static_shapes = False

    def __init__(self, manifest: Manifest) -> None:
        model = manifest.model.model_copy(update={"vocab_size": 32})
        self.manifest = manifest.model_copy(update={"model": model})
        self.hidden: dict[str, Logits] = {}
        self._logits = np.zeros((8, 32), np.float32)

    def prepare(self, graph: Graph) -> None:
        """Nothing."""

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """The same logits each time."""
        return self._logits[: len(chunks)]

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
