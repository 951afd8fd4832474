"""A session that notes when each forward pass began and ended; otherwise the one inside."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.manifest import Graph
from runtime.sessions.base import Chunk, Logits, Session
from runtime.timing import now

__all__ = ["TimedSession"]


class TimedSession:
    """The forward pass as `run` of the session inside: filling its inputs is part of it."""

    def __init__(self, inside: Session) -> None:
        self._inside = inside
        self.manifest = inside.manifest
        self.static_shapes = inside.static_shapes
        self.hidden: dict[str, NDArray[np.float32]] = {}
        self.forwards: list[tuple[float, float]] = []
        """Moments of the process's clock, in seconds; clear it before what is to be measured."""

    def prepare(self, graph: Graph) -> None:
        """See Session.prepare."""
        self._inside.prepare(graph)

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """See Session.run."""
        started = now()
        logits = self._inside.run(graph, chunks)
        self.forwards.append((started, now()))
        return logits

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """See Session.copy_rows."""
        self._inside.copy_rows(source, target, num_rows)

    def close(self) -> None:
        """See Session.close."""
        self._inside.close()
