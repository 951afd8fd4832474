"""Runs torch programs, which write new rows into the cache that they are given.

A program is a package that AOTInductor compiled, or any other function of a graph's inputs. All of
them run on one copy of the weights, and all tensors stay where they are between two calls.
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
from runtime.sessions.torch_devices import Call, Cpu, Cuda, TorchDevice

__all__ = [
    "Program",
    "TorchSession",
    "load_package",
    "mapped_weights",
    "open_on_cpu",
    "open_on_cuda",
]

Program = Callable[..., Tensor]  # a graph's inputs, in their order -> logits
Load = Callable[[Graph], Program]


class TorchSession:
    """Session over programs with `start` and `past_key.{i}` in, and logits out.

    Args:
        manifest: its graphs are programs, all on one cache.
        weights: the inputs of every graph that are neither tokens nor cache, by name.
        load: gives the program of a graph, when it is first needed.
        device: where all of it lies.
    """

    static_shapes = True

    def __init__(
        self, manifest: Manifest, weights: Mapping[str, Tensor], load: Load, device: TorchDevice
    ) -> None:
        self.manifest = manifest
        self.hidden: dict[str, NDArray[np.float32]] = {}
        self._load, self._device = load, device
        self._weights = {name: tensor.to(device.name) for name, tensor in weights.items()}
        self._programs: dict[str, Program] = {}
        self._tokens: dict[str, dict[str, Tensor]] = {}  # of each graph
        self._calls: dict[tuple[str, int], Call] = {}  # of each graph, by its first slot
        self._lengths = [0] * manifest.num_slots  # rows of each slot that may be valid
        self._caches = {
            tensor.name: torch.zeros(
                (manifest.num_slots, *tensor.shape[1:]),
                dtype=getattr(torch, tensor.dtype),
                device=device.name,
            )
            for tensor in manifest.graphs[0].inputs
            if tensor.name.startswith("past_")
        }  # (slots, T, G, D)

    @torch.no_grad()
    def prepare(self, graph: Graph) -> None:
        """See Session.prepare."""
        if graph.spec.name not in self._programs:
            self._programs[graph.spec.name] = self._load(graph)
            self._give(graph, ())
            self._call(graph, 0)

    @torch.no_grad()
    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """See Session.run."""
        self.prepare(graph)
        batch_size = graph.spec.batch_size
        self._give(graph, chunks)
        call = self._call(graph, chunks[0].slot if batch_size == 1 else 0)
        for chunk in chunks:
            self._lengths[chunk.slot] = chunk.start + len(chunk.token_ids)
        logits = self._device.to_host(call())
        rows = [batch_row(batch_size, chunk) for chunk in chunks]
        return logits if rows == list(range(batch_size)) else logits[rows]

    def _give(self, graph: Graph, chunks: Sequence[Chunk]) -> None:
        """Fills a graph's tokens. An idle row of the batch writes where its slot is free."""
        spec = graph.spec
        arrays = token_arrays(spec.batch_size, spec.seq_len, chunks, self._lengths)
        given = (names.INPUT_IDS, names.START, names.LOGIT_ROWS)
        tensors = {name: torch.from_numpy(a) for name, a in zip(given, arrays, strict=True)}
        if spec.name not in self._tokens:
            made = {name: tensor.clone().to(self._device.name) for name, tensor in tensors.items()}
            self._tokens[spec.name] = made
        for name, tensor in tensors.items():
            self._tokens[spec.name][name].copy_(tensor)

    def _call(self, graph: Graph, first: int) -> Call:
        """The call of a program on the slots from the first on; that of a decode graph is kept."""
        spec, key = graph.spec, (graph.spec.name, first)
        if key not in self._calls:
            caches = {
                name: rows[first : first + spec.batch_size] for name, rows in self._caches.items()
            }
            given = {**self._tokens[spec.name], **caches, **self._weights}
            program = self._programs[spec.name]
            inputs = [given[tensor.name] for tensor in graph.inputs]

            def call() -> Tensor:
                return program(*inputs)

            # A long graph spends its time in its kernels, and there is one for every slot.
            self._calls[key] = self._device.fixed(call) if spec.phase == "decode" else call
        return self._calls[key]

    @torch.no_grad()
    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """See Session.copy_rows."""
        for cache in self._caches.values():
            cache[target, :num_rows] = cache[source, :num_rows]
        self._lengths[target] = num_rows

    def close(self) -> None:
        """Drops the programs, the cache and the weights."""
        self._calls, self._programs = {}, {}
        self._tokens, self._caches, self._weights = {}, {}, {}


def open_on_cpu(bundle: Bundle, options: SessionOptions) -> TorchSession:
    """A session over the packages of a bundle for torch-cpu.

    Raises:
        SessionError: when a graph is first needed: another torch or another kind of CPU.
    """
    return _open(bundle, Cpu(options))


def open_on_cuda(bundle: Bundle, options: SessionOptions) -> TorchSession:
    """A session over the packages of a bundle for torch-cuda.

    Raises:
        SessionError: no such GPU; or later as on a CPU.
    """
    return _open(bundle, Cuda(options))


def _open(bundle: Bundle, device: TorchDevice) -> TorchSession:
    weights = mapped_weights(bundle, bundle.manifest.graphs[0])
    return TorchSession(
        bundle.manifest, weights, lambda graph: load_package(bundle, graph, device), device
    )


def load_package(bundle: Bundle, graph: Graph, device: TorchDevice) -> Program:
    """Machine code, so whatever could crash it is compared before it runs.

    Raises:
        SessionError: it was made for another version of torch or another kind of device.
    """
    try:
        # One thread calls it; and what would wait for others cannot be captured.
        package = torch._inductor.aoti_load_package(
            str(bundle.file(graph.path)), run_single_threaded=True, device_index=device.index
        )
    except RuntimeError as error:
        raise SessionError(
            f"torch {torch.__version__} cannot load {graph.path}",
            got=str(error).splitlines()[0],
            next_step="compile the bundle again with this version installed",
        ) from error
    here = {"torch": torch.__version__, **device.facts()}
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
