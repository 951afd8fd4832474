"""Makes the residual stream after every layer visible, and compares it with the reference."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from runtime.bundle.manifest import Graph, TensorSpec
from runtime.bundle.reader import Bundle
from runtime.bundle.tensor_names import hidden_name
from runtime.sessions import Chunk, Session
from runtime.sessions.base import batch_row
from toolchain.verify.parity import relative_error

__all__ = ["WatchedSession", "tapped"]

Rows = NDArray[np.float32]


class WatchedSession:
    """A session over tapped graphs that notes each layer's largest relative error.

    Args:
        inner: the session to watch.
        expected: per layer the reference's residual stream of the one sequence run, (S, E).
    """

    def __init__(self, inner: Session, expected: Sequence[Rows]) -> None:
        self.manifest = inner.manifest
        self.static_shapes = inner.static_shapes
        self.hidden: dict[str, Rows] = {}
        self.errors = [0.0] * len(expected)
        self._inner, self._expected = inner, expected

    def prepare(self, graph: Graph) -> None:
        """See Session.prepare."""
        self._inner.prepare(graph)

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Rows:
        """See Session.run."""
        logits = self._inner.run(graph, chunks)
        for chunk in chunks:
            length = len(chunk.token_ids)
            for i, stream in enumerate(self._expected):
                seen = self._inner.hidden[hidden_name(i)][
                    batch_row(graph.spec.batch_size, chunk), :length
                ]
                error = relative_error(stream[chunk.start : chunk.start + length], seen)
                self.errors[i] = float(np.maximum(self.errors[i], error))  # keeps a NaN
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
