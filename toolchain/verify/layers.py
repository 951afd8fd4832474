"""Each layer and the head by itself: what they make of their own input, beside the reference.

An error that a layer was given is not counted as its own, so the place of a fault shows wherever
it lies, and rounding does not add up with depth.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.reference import Reference
from profiles import Limits
from runtime.bundle.reader import Bundle
from runtime.sessions import Session, open_session
from toolchain.verify.parity import columns_error, layer_error
from toolchain.verify.replay import replay
from toolchain.verify.taps import Pass, WatchedSession, tapped

__all__ = ["Parts", "check_parts"]

LONGEST = 256  # tokens that are looked at, since every layer's output is kept
HEAD_ROWS = 10  # of fewer the logits of some id are near zero by chance, and its error is great


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Relative errors of one graph's parts, each given its own input.

    layers: the largest of each layer.
    head: the largest of an id's logits, from the last residual stream; 0 of too few rows to tell.
    head_id: that id.
    head_median: half of the ids are below.
    """

    layers: tuple[float, ...]
    head: float
    head_id: int
    head_median: float

    @property
    def worst(self) -> float:
        """The largest error of all; not a number where there is one that is none."""
        return float(np.max([*self.layers, self.head]))

    def culprits(self, limits: Limits) -> list[str]:
        """What is past its limit; not a number is past every limit."""
        over = [i for i, error in enumerate(self.layers) if not error <= limits.hidden]
        limit = limits.head or limits.hidden
        first = [_words(_numbered(over), self.layers[over[0]], limits.hidden)] if over else []
        if self.head <= limit:
            return first
        where = f"lm_head, id {self.head_id}" if self.head_median <= limit else "norm or lm_head"
        return [*first, _words(where, self.head, limit)]


def check_parts(
    bundle: Bundle,
    reference: Reference,
    sequences: Sequence[Sequence[int]],
    opener: Callable[[Bundle], Session] = open_session,
) -> dict[str, Parts]:
    """Runs every graph on the longest sequence with every layer's output made visible.

    Returns:
        By the graph's name; nothing where there is no room for a copy of the bundle.
    """
    ids = max(sequences, key=len)[:LONGEST]
    room = _room(bundle)
    seen: dict[str, list[Pass]] = {}
    if room is None:
        return {}
    with (
        tempfile.TemporaryDirectory(dir=room) as taps,
        closing(opener(tapped(bundle, Path(taps)))) as session,
    ):
        for graph in session.manifest.graphs:
            watched = WatchedSession(session)
            for _ in replay(watched, graph, ids):
                pass  # what counts is what the watched session saw
            seen[graph.spec.name] = watched.passes
    layers = _check_layers(reference, [run for passes in seen.values() for run in passes])
    return {
        name: _parts(reference, passes, [layers[id(run)] for run in passes])
        for name, passes in seen.items()
    }


def _room(bundle: Bundle) -> Path | None:
    """Where a copy can lie: beside the bundle, whose weights can be linked, or where they fit."""
    beside, elsewhere = bundle.path.parent, Path(tempfile.gettempdir())
    if os.access(beside, os.W_OK):
        return beside
    same_disk = elsewhere.stat().st_dev == bundle.path.stat().st_dev
    num_bytes = sum(file.size for file in bundle.manifest.files.values())
    return elsewhere if same_disk or num_bytes < shutil.disk_usage(elsewhere).free else None


def _check_layers(reference: Reference, passes: Sequence[Pass]) -> dict[int, list[float]]:
    """The error of every layer in every pass; each layer's weights are read once."""
    streams = reference.embed([run.token_ids for run in passes])
    errors: dict[int, list[float]] = {id(run): [] for run in passes}
    for i in range(reference.config.num_hidden_layers):
        expected = reference.layer(i, streams)
        after = [run.layer(i) for run in passes]
        for run, before, right, seen in zip(passes, streams, expected, after, strict=True):
            errors[id(run)].append(layer_error(before, right, seen))
        streams = after
    return errors


def _parts(
    reference: Reference, passes: Sequence[Pass], errors: Sequence[Sequence[float]]
) -> Parts:
    pairs = [run.head() for run in passes]
    stream, logits = (np.concatenate(rows) for rows in zip(*pairs, strict=True))
    known = np.isfinite(stream).all(-1)
    columns: NDArray[np.float32] = np.zeros(1, np.float32)
    if known.sum() >= HEAD_ROWS:
        columns = columns_error(reference.logits(stream[known]), logits[known])
    worst = int(np.argmax(np.nan_to_num(columns, nan=np.inf)))
    return Parts(
        layers=tuple(float(error) for error in np.max(np.array(errors), axis=0)),
        head=float(columns[worst]),
        head_id=worst,
        head_median=float(np.median(columns)),
    )


def _words(where: str, error: float, limit: float) -> str:
    return f"{where} (relative error {error:.3g}, limit {limit:g})"


def _numbered(layers: Sequence[int]) -> str:
    """Such as "layer 2", "layers 0, 5" or "layers 0 to 31"."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if len(layers) > 2 and len(layers) == layers[-1] - layers[0] + 1:
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers))}"
