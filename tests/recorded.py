"""Sessions around a real one: they note its calls, fail at one, or have another graph."""

from collections.abc import Sequence

import numpy as np

from runtime.bundle.manifest import Graph
from runtime.errors import SessionError
from runtime.sessions.base import Chunk, Logits, Session
from tests.mixes import NEVER


class Recorded:
    """A session that notes its calls, and fails at one of them."""

    def __init__(self, session: Session, fail_at: int = NEVER) -> None:
        self.manifest, self.static_shapes = session.manifest, session.static_shapes
        self.hidden = session.hidden
        self.calls: list[tuple[str, list[int]]] = []
        self._session, self._fail_at = session, fail_at

    def _note(self, name: str, slots: list[int]) -> None:
        self.calls.append((name, slots))
        if len(self.calls) == self._fail_at:
            raise SessionError("the device stumbled")

    def prepare(self, graph: Graph) -> None:
        self._session.prepare(graph)

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        self._note(graph.spec.name, [chunk.slot for chunk in chunks])
        return self._session.run(graph, chunks)

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        self._note("copy", [source, target])
        self._session.copy_rows(source, target, num_rows)

    def close(self) -> None:
        self._session.close()


class BatchedScores(Recorded):
    """Has a score graph of three sequences too, as a chip may; each is run by itself."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        [self._one] = [g for g in session.manifest.graphs if g.spec.phase == "score"]
        spec = self._one.spec.model_copy(update={"batch_size": 3})
        batched = self._one.model_copy(update={"spec": spec})
        graphs = (*session.manifest.graphs, batched)
        self.manifest = session.manifest.model_copy(update={"graphs": graphs})

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        if graph.spec.name != "score_b3_s8":
            return super().run(graph, chunks)
        self._note(graph.spec.name, [chunk.slot for chunk in chunks])
        logits = np.zeros((len(chunks), 8, self.manifest.model.vocab_size), np.float32)
        for chunk, rows in zip(chunks, logits, strict=True):
            assert chunk.slot < 3
            rows[: len(chunk.token_ids)] = self._session.run(self._one, [chunk])[0]
        return logits
