"""Runs torch programs, which write new rows into the cache that they are given.

A program is a package that AOTInductor compiled, or any other function of a graph's inputs. All of
them run on one copy of the weights, mapped from the bundle's files. torch is imported here alone.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
import torch
import torch._inductor
from numpy.typing import NDArray
from torch import Tensor

from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import Graph, Manifest
from runtime.bundle.reader import Bundle
from runtime.errors import SessionError
from runtime.sessions.base import Chunk, Logits, SessionOptions, batch_row, token_arrays
from runtime.threads import usable_threads

__all__ = ["Program", "TorchSession", "mapped_weights", "open_packages"]

Program = Callable[..., Tensor]  # a graph's inputs, in their order -> logits


class TorchSession:
    """Session over programs with `start` and `past_key.{i}` in, and logits out.

    Args:
        manifest: its graphs are programs, all with a cache of as many rows.
        weights: the inputs of every graph that are neither tokens nor cache, by name.
        load: gives the program of a graph, when it is first needed.
    """

    static_shapes = True

    def __init__(
        self, manifest: Manifest, weights: Mapping[str, Tensor], load: Callable[[Graph], Program]
    ) -> None:
        self.manifest = manifest
        self.hidden: dict[str, NDArray[np.float32]] = {}
        self._weights = weights
        self._load = load
        self._programs: dict[str, Program] = {}
        self._lengths = [0] * manifest.num_slots  # rows of each slot that may be valid
        self._caches = {
            tensor.name: torch.zeros(
                (manifest.num_slots, *tensor.shape[1:]), dtype=getattr(torch, tensor.dtype)
            )
            for tensor in manifest.graphs[0].inputs
            if tensor.name.startswith("past_")
        }  # (slots, T, G, D)

    def prepare(self, graph: Graph) -> None:
        """See Session.prepare."""
        if graph.spec.name not in self._programs:
            self._programs[graph.spec.name] = self._load(graph)

    @torch.no_grad()
    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """See Session.run."""
        self.prepare(graph)
        batch_size = graph.spec.batch_size
        # An idle row of the batch writes where its slot is free.
        input_ids, starts, logit_rows = token_arrays(
            batch_size, graph.spec.seq_len, chunks, self._lengths
        )
        for chunk in chunks:
            self._lengths[chunk.slot] = chunk.start + len(chunk.token_ids)
        first = chunks[0].slot if batch_size == 1 else 0
        caches = {name: rows[first : first + batch_size] for name, rows in self._caches.items()}
        given = {
            names.INPUT_IDS: torch.from_numpy(input_ids),
            names.START: torch.from_numpy(starts),
            names.LOGIT_ROWS: torch.from_numpy(logit_rows),
            **caches,
            **self._weights,
        }
        program = self._programs[graph.spec.name]
        logits: Logits = program(*(given[tensor.name] for tensor in graph.inputs)).numpy()
        rows = [batch_row(batch_size, chunk) for chunk in chunks]
        return logits if rows == list(range(batch_size)) else logits[rows]

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """See Session.copy_rows."""
        for cache in self._caches.values():
            cache[target, :num_rows] = cache[source, :num_rows]
        self._lengths[target] = num_rows

    def close(self) -> None:
        """Drops the programs and the cache."""
        self._programs = {}
        self._caches = {}


def open_packages(bundle: Bundle, options: SessionOptions) -> TorchSession:
    """A session over the packages of a compiled bundle.

    Raises:
        SessionError: when a graph is first needed: another torch or another kind of CPU.
    """
    torch.set_num_threads(options.threads or usable_threads())
    weights = mapped_weights(bundle, bundle.manifest.graphs[0])
    return TorchSession(bundle.manifest, weights, lambda graph: _load_package(bundle, graph))


def _load_package(bundle: Bundle, graph: Graph) -> Program:
    """Machine code, so whatever could crash it is compared before it runs."""
    try:
        package = torch._inductor.aoti_load_package(str(bundle.file(graph.path)))
    except RuntimeError as error:
        raise SessionError(
            f"torch {torch.__version__} cannot load {graph.path}",
            got=str(error).splitlines()[0],
            next_step="compile the bundle again with this version installed",
        ) from error
    here = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}
    made_for = package.get_metadata()
    for name, found in here.items():
        if made_for.get(name) != found:
            raise SessionError(
                f"{graph.path} was compiled for another {name}",
                got=found,
                allowed=made_for.get(name),
                next_step="compile the bundle on this machine or one like it",
            )
    program: Program = package
    return program


def mapped_weights(bundle: Bundle, graph: Graph) -> dict[str, Tensor]:
    """The weights of a graph that lie in files of the bundle, mapped and not read."""
    specs = {tensor.name: tensor for tensor in graph.inputs}
    mapped = {}
    for relative in graph.weights:
        if relative in bundle.manifest.files:
            spec = specs[relative.rpartition("/")[2]]
            dtype, size = getattr(torch, spec.dtype), prod(spec.shape)
            file = str(bundle.file(relative))
            flat = torch.from_file(file, shared=False, size=size, dtype=dtype)
            mapped[spec.name] = flat.reshape(spec.shape)
    return mapped
