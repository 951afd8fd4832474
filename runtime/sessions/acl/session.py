"""Runs a bundle compiled for an Ascend chip.

The weights lie on the device once, the cache never leaves it: a graph writes new rows into it, or
they are copied from its outputs. A token sends its id and its position and fetches its logits.
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import Device, Graph, TensorSpec
from runtime.bundle.reader import Bundle
from runtime.errors import SessionError
from runtime.sessions.acl.cache import AclCache
from runtime.sessions.acl.device import AclDevice, HostBuffer
from runtime.sessions.acl.driver import Acl
from runtime.sessions.acl.model import AclModel, Workspace, num_bytes
from runtime.sessions.acl.room import require_room
from runtime.sessions.acl.weights import find_register, put_on_device
from runtime.sessions.attention_mask import attention_mask
from runtime.sessions.base import (
    DEFAULT_OPTIONS,
    Chunk,
    Logits,
    SessionOptions,
    batch_row,
    token_arrays,
)

__all__ = ["AclSession"]


class AclSession:
    """Session over OMs with `past_key.{i}` in, which they write, or `key.{i}` (new rows) out."""

    static_shapes = True

    def __init__(self, bundle: Bundle, options: SessionOptions = DEFAULT_OPTIONS) -> None:
        """Loads every graph.

        Raises:
            SessionError: no pyACL or device, another chip, too little memory, or a failing call.
        """
        assert options.trace is None, "the table of sessions says that there are no traces"
        assert bundle.manifest.device is not None, "compile writes it for every chip"
        self.manifest = bundle.manifest
        self.hidden: dict[str, NDArray[np.float32]] = {}
        self._lengths = [0] * bundle.manifest.num_slots  # rows of each slot that may be valid
        self._stack = ExitStack()
        try:
            self._open(bundle, bundle.manifest.device, options.device)
        except BaseException:
            with suppress(SessionError):  # the first error is the one that counts
                self.close()
            raise

    def _open(self, bundle: Bundle, spec: Device, index: int) -> None:
        stack, acl = self._stack, Acl()

        # 1. The device, and whether it has room.
        self._device = device = AclDevice(acl, index, spec, stack)
        families: dict[str, list[Graph]] = {}
        for graph in bundle.manifest.every_graph:
            families.setdefault(graph.path, []).append(graph)
        largest = [max(graphs, key=_num_rows) for graphs in families.values()]
        register = find_register()
        shared = register is not None
        sizes = [acl.get("mdl.query_size", str(bundle.file(path))) for path in families]
        workspace_size = max(work for work, _ in sizes)
        require_room(bundle, spec, largest, shared, workspace_size, device)

        # 2. Weights, each file once, and what all models share.
        weights = put_on_device(bundle, largest, device) if shared else {}
        workspace = Workspace(
            device.allocate(workspace_size) if workspace_size else 0, workspace_size
        )
        self._cache = AclCache(bundle.manifest, spec, device)

        # 3. Models and their buffers.
        self._models: dict[str, AclModel] = {}
        for path, graphs in families.items():
            own = {relative: weights[relative] for relative in graphs[0].weights if shared}
            self._models[path] = AclModel(
                device, bundle.file(path), graphs, own, register, workspace, stack
            )
        self._connect()
        self._host = {
            tensor.name: device.allocate_host(size)
            for tensor, size in _crossing(bundle.manifest.graphs).values()
        }
        stack.callback(device.settle)

    def _connect(self) -> None:
        """Models run one at a time, so they share their inputs and outputs."""
        addresses, sizes = dict(self._cache.addresses(0)), dict[str, int]()
        for model in self._models.values():
            for name, size in (*model.input_sizes.items(), *model.output_sizes.items()):
                sizes[name] = max(size, sizes.get(name, 0))
        for name in [name for name in sizes if name not in addresses]:
            addresses[name] = self._device.allocate(sizes[name])
        for model in self._models.values():
            model.connect(addresses)

    def prepare(self, graph: Graph) -> None:
        """Nothing: every graph is on the device already."""

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """See Session.run."""
        graph = _shortest(graph, chunks)
        spec, model, device = graph.spec, self._models[graph.path], self._device
        device.use()

        # 1. Ids go to the device, and how many rows each sequence has.
        arrays = self._arrays(graph, chunks)
        for tensor in graph.inputs:
            if tensor.name in arrays:
                self._send(tensor, arrays[tensor.name], model.inputs[tensor.name].address)

        # 2. The graph runs on the cache of its slots, and writes new rows there where it can.
        written = dict[str, int]()
        if spec.batch_size == 1 and not model.in_gears:
            written = self._cache.rows_in_place(chunks[0], spec.seq_len)
        model.point_inputs(self._cache.addresses(chunks[0].slot if spec.batch_size == 1 else 0))
        model.point_outputs(written)
        model.execute(graph)

        # 3. Other new rows are copied to the cache, the logits come back.
        if not written:
            for chunk in chunks:
                row = batch_row(spec.batch_size, chunk)
                self._cache.write_rows(chunk, row, spec.seq_len, model)
        [logits] = [tensor for tensor in graph.outputs if tensor.name == names.LOGITS]
        host = self._host[names.LOGITS]
        device.fetch(host, model.outputs[names.LOGITS].address, num_bytes(logits))
        device.synchronize()
        rows = [batch_row(spec.batch_size, chunk) for chunk in chunks]
        view: Logits = _view(host, logits)
        return view if rows == list(range(spec.batch_size)) else view[rows]

    def _arrays(self, graph: Graph, chunks: Sequence[Chunk]) -> dict[str, NDArray[Any]]:
        """What a graph may be sent, by name.

        An idle row of a batch begins where its slot is free, and has one token: a graph that writes
        new rows itself writes that one too.
        """
        spec = graph.spec
        input_ids, starts, logit_rows = token_arrays(
            spec.batch_size, spec.seq_len, chunks, self._lengths
        )
        for chunk in chunks:
            self._lengths[chunk.slot] = chunk.start + len(chunk.token_ids)
        arrays: dict[str, NDArray[Any]] = {
            names.INPUT_IDS: input_ids,
            names.START: starts,
            names.LENGTHS: starts + logit_rows % spec.seq_len + 1,
            names.LOGIT_ROWS: logit_rows,
        }
        if any(tensor.name == names.ATTENTION_MASK for tensor in graph.inputs):
            # In gears, or compiled without the pass start_input.
            arrays[names.POSITION_IDS] = starts[:, None] + np.arange(spec.seq_len)
            arrays[names.ATTENTION_MASK] = attention_mask(spec, starts)
        return arrays

    def _send(self, tensor: TensorSpec, array: NDArray[Any], address: int) -> None:
        host = self._host[tensor.name]
        _view(host, tensor)[...] = array
        self._device.send(address, host, num_bytes(tensor))

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """See Session.copy_rows."""
        self._device.use()
        self._cache.copy_rows(source, target, num_rows)
        self._lengths[target] = num_rows
        self._device.synchronize()

    def close(self) -> None:
        """Gives back everything, in reverse order, whatever fails on the way.

        Raises:
            SessionError: the driver would not take something back.
        """
        self._stack.close()


def _shortest(graph: Graph, chunks: Sequence[Chunk]) -> Graph:
    """The graph that reads the fewest cached rows of those that read all there are."""
    cached = max(chunk.start for chunk in chunks)
    return next((each for each in graph.shorter if cached <= each.spec.cache_len), graph)


def _num_rows(graph: Graph) -> int:
    return graph.spec.batch_size * graph.spec.seq_len


def _view(host: HostBuffer, tensor: TensorSpec) -> NDArray[Any]:
    return host.array[: num_bytes(tensor)].view(tensor.dtype).reshape(tensor.shape)


def _crossing(graphs: Sequence[Graph]) -> dict[str, tuple[TensorSpec, int]]:
    """Inputs and outputs that cross the bus, with the largest size of each."""
    found: dict[str, tuple[TensorSpec, int]] = {}
    for graph in graphs:
        for tensor in (*graph.inputs, *graph.outputs):
            if len(tensor.shape) < 4 or tensor.name == names.ATTENTION_MASK:
                size = max(num_bytes(tensor), found.get(tensor.name, (tensor, 0))[1])
                found[tensor.name] = (tensor, size)
    return found
