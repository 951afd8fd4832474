"""Makes the residual stream after every layer visible, and keeps what is seen."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from runtime.bundle.manifest import Backend, Graph, TensorSpec
from runtime.bundle.reader import Bundle
from runtime.bundle.tensor_names import hidden_name
from runtime.sessions import Chunk, Session
from runtime.sessions.base import batch_row

__all__ = ["TAPPED", "Pass", "WatchedSession", "tapped"]

TAPPED: tuple[Backend, ...] = ("portable", "onnxruntime")  # whose graphs can be opened up
Rows = NDArray[np.float32]


class Pass:
    """What was seen of one sequence, from its first token on.

    Args:
        num_layers: of the model.
    """

    def __init__(self, num_layers: int) -> None:
        self.token_ids: list[int] = []
        self._layers: list[list[Rows]] = [[] for _ in range(num_layers)]  # (E,) per token
        self._logits: dict[int, Rows] = {}  # row -> (V,)

    def add(self, chunk: Chunk, streams: Sequence[Rows], logits: Rows) -> None:
        """The rows of a chunk, which replace those from its start on.

        Args:
            chunk: new tokens.
            streams: per layer, (n, E).
            logits: (n, V), or (V,) of the last row.
        """
        del self.token_ids[chunk.start :]
        self.token_ids += chunk.token_ids
        for rows, stream in zip(self._layers, streams, strict=True):
            rows[chunk.start :] = list(stream.astype(np.float32))
        given = np.atleast_2d(logits).copy()
        self._logits.update(enumerate(given, len(self.token_ids) - len(given)))

    def layer(self, i: int) -> Rows:
        """The residual stream after a layer, (S, E)."""
        return np.stack(self._layers[i])

    def head(self) -> tuple[Rows, Rows]:
        """The last residual stream where logits were given, (n, E), and those logits, (n, V)."""
        return self.layer(-1)[list(self._logits)], np.stack(list(self._logits.values()))


class WatchedSession:
    """A session over tapped graphs that keeps what it sees."""

    def __init__(self, inner: Session) -> None:
        self.manifest = inner.manifest
        self.static_shapes = inner.static_shapes
        self.hidden: dict[str, Rows] = {}
        self.passes: list[Pass] = []
        self._inner = inner
        self._slots: dict[int, Pass] = {}

    def prepare(self, graph: Graph) -> None:
        """See Session.prepare."""
        self._inner.prepare(graph)

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Rows:
        """See Session.run."""
        logits = self._inner.run(graph, chunks)
        num_layers = self.manifest.model.num_hidden_layers
        for given, chunk in zip(logits, chunks, strict=True):
            if chunk.start == 0:
                self._slots[chunk.slot] = Pass(num_layers)
                self.passes.append(self._slots[chunk.slot])
            row, length = batch_row(graph.spec.batch_size, chunk), len(chunk.token_ids)
            streams = [self._inner.hidden[hidden_name(i)][row, :length] for i in range(num_layers)]
            rows = given[:length] if given.ndim > 1 else given
            self._slots[chunk.slot].add(chunk, streams, rows)
        return logits

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """See Session.copy_rows."""
        self._inner.copy_rows(source, target, num_rows)

    def close(self) -> None:
        """See Session.close."""
        self._inner.close()


def tapped(bundle: Bundle, directory: Path) -> Bundle:
    """Writes a copy of a bundle whose graphs also output hidden.{i}, into an empty directory.

    Weights are hard links where possible.
    """
    for relative in bundle.manifest.files:
        target = directory / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(bundle.file(relative), target)
        except OSError:  # another file system
            shutil.copyfile(bundle.file(relative), target)
    graphs = tuple(_tap(bundle, graph, directory) for graph in bundle.manifest.graphs)
    return Bundle(path=directory, manifest=bundle.manifest.model_copy(update={"graphs": graphs}))


def _tap(bundle: Bundle, graph: Graph, directory: Path) -> Graph:
    model = ir.load(bundle.file(graph.path))
    values = {value.name: value for node in model.graph for value in node.outputs}
    config, outputs = bundle.manifest.model, list(graph.outputs)
    shape = (graph.spec.batch_size, graph.spec.seq_len, config.hidden_size)
    for i in range(config.num_hidden_layers):
        value = values[hidden_name(i)]
        assert value.dtype is not None, "every value is typed"
        model.graph.outputs.append(value)
        outputs.append(
            TensorSpec.model_validate(
                {"name": value.name, "dtype": value.dtype.numpy().name, "shape": shape}
            )
        )
    (directory / graph.path).unlink()
    (directory / graph.path).write_bytes(ir.to_proto(model).SerializeToString())
    return graph.model_copy(update={"outputs": tuple(outputs)})
