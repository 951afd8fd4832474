"""One OM on the device: its handle, its buffers, allocated once, and what runs it."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from runtime.bundle.manifest import Graph, TensorSpec
from runtime.errors import SessionError
from runtime.sessions.acl.device import AclDevice
from runtime.sessions.acl.weights import Register

__all__ = ["AclModel", "Workspace"]

# acl.mdl.set_config_opt: attributes, and the load type "from a file, into memory that we own".
LOAD_TYPE, MODEL_PATH, WORKSPACE_ADDRESS, WORKSPACE_SIZE = 1, 2, 7, 8
FROM_FILE_WITH_MEMORY = 2
MAX_ROUNDING = 64  # bytes that a model's size may be above the tensor's; ge, CheckInputSize
GEAR_INPUT = "ascend_mbatch_shape_data"  # the input that ATC adds to a model with gears


@dataclass(frozen=True, slots=True)
class Workspace:
    """Device memory that models run in, one at a time."""

    address: int
    size: int


@dataclass(slots=True)
class Port:
    """An input or output: its data buffer, the memory that it points to now, and its own."""

    buffer: int
    address: int
    size: int
    home: int


def num_bytes(tensor: TensorSpec) -> int:
    """What the tensor takes, rows after rows."""
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize


class AclModel:
    """A loaded OM that computes one graph, or several in gears; connect comes before a run.

    Args:
        device: where to load.
        path: the OM.
        graphs: what it computes.
        weights: address and size of its weight files on the device, by path.
        register: tells the loader about them; None lets it make copies of its own.
        workspace: memory for its intermediate results.
        stack: gives everything back.

    Raises:
        SessionError: the driver refuses it, or its inputs are not those of the graphs.
    """

    def __init__(
        self,
        device: AclDevice,
        path: Path,
        graphs: list[Graph],
        weights: dict[str, tuple[int, int]],
        register: Register | None,
        workspace: Workspace,
        stack: ExitStack,
    ) -> None:
        self._device, self._acl, self._stack = device, device.acl, stack
        self._path, self._graphs = path, graphs
        self.in_gears = len({graph.spec.seq_len for graph in graphs}) > 1
        self._id = self._load(weights, register, workspace)
        self._desc = self._acl.make("mdl.create_desc")
        stack.callback(self._acl.release, "mdl.destroy_desc", self._desc)
        self._acl.do("mdl.get_desc", self._desc, self._id)
        self.inputs: dict[str, Port] = {}
        self.outputs: dict[str, Port] = {}
        self._input_dataset = self._dataset()
        self._output_dataset = self._dataset()
        self.input_sizes, self.output_sizes = self._sizes()

    def _load(
        self,
        weights: dict[str, tuple[int, int]],
        register: Register | None,
        workspace: Workspace,
    ) -> int:
        acl = self._acl
        with ExitStack() as config:
            handle = acl.make("mdl.create_config_handle")
            config.callback(acl.release, "mdl.destroy_config_handle", handle)
            if register is not None:
                for relative, (address, size) in weights.items():
                    name = PurePosixPath(relative).name
                    code = register(handle, name.encode(), address, size)
                    if code:
                        raise acl.failure("mdlSetExternalWeightAddress", code)
            acl.do("mdl.set_config_opt", handle, LOAD_TYPE, FROM_FILE_WITH_MEMORY)
            acl.do("mdl.set_config_opt", handle, MODEL_PATH, str(self._path))
            if workspace.size:
                acl.do("mdl.set_config_opt", handle, WORKSPACE_ADDRESS, workspace.address)
                acl.do("mdl.set_config_opt", handle, WORKSPACE_SIZE, workspace.size)
            model_id: int = acl.get("mdl.load_with_config", handle)
            self._stack.callback(acl.release, "mdl.unload", model_id)
        return model_id

    def _dataset(self) -> int:
        dataset: int = self._acl.make("mdl.create_dataset")
        self._stack.callback(self._acl.release, "mdl.destroy_dataset", dataset)
        return dataset

    def _sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes of every input and output, by name, in the order of the OM."""
        acl, largest = self._acl, max(self._graphs, key=lambda graph: graph.spec.seq_len)
        names = [
            acl.make("mdl.get_input_name_by_index", self._desc, i)
            for i in range(acl.make("mdl.get_num_inputs", self._desc))
        ]
        gears = [GEAR_INPUT] if self.in_gears else []
        expected = [*(tensor.name for tensor in largest.inputs), *gears]
        num_outputs = acl.make("mdl.get_num_outputs", self._desc)
        if sorted(names) != sorted(expected) or num_outputs != len(largest.outputs):
            raise SessionError(
                f"{self._path.name} has other inputs or outputs than its graph",
                got=f"{', '.join(names[:6])} ... and {num_outputs} outputs",
                allowed=f"{', '.join(expected[:6])} ... and {len(largest.outputs)} outputs",
                next_step="compile the bundle again",
            )
        tensors = {tensor.name: tensor for tensor in largest.inputs}
        inputs = {name: self._size("input", i, tensors.get(name)) for i, name in enumerate(names)}
        # An OM names its outputs after its nodes, so they count in the order of the graph.
        outputs = {
            tensor.name: self._size("output", i, tensor) for i, tensor in enumerate(largest.outputs)
        }
        return inputs, outputs

    def connect(self, addresses: Mapping[str, int]) -> None:
        """Gives every input and output its memory.

        Args:
            addresses: where each lies, by name; at least of its size.
        """
        for name, size in self.input_sizes.items():
            self.inputs[name] = self._port(self._input_dataset, size, addresses[name])
        for name, size in self.output_sizes.items():
            self.outputs[name] = self._port(self._output_dataset, size, addresses[name])

    def _size(self, side: str, index: int, tensor: TensorSpec | None) -> int:
        """Bytes of an input or output, which must be those promised.

        The type is not asked for: a question that fails gives 0, which is float32; another type
        of another width has another size.
        """
        size: int = self._acl.make(f"mdl.get_{side}_size_by_index", self._desc, index)
        if tensor is not None and not 0 <= size - num_bytes(tensor) <= MAX_ROUNDING:
            raise SessionError(
                f"{self._path.name}: {side} {tensor.name} is not what the manifest says",
                got=f"{size} bytes",
                allowed=f"{num_bytes(tensor)} bytes of {tensor.dtype}",
                next_step="compile the bundle again",
            )
        return size

    def _port(self, dataset: int, size: int, address: int) -> Port:
        buffer: int = self._acl.make("create_data_buffer", address, size)
        self._stack.callback(self._acl.release, "destroy_data_buffer", buffer)
        self._acl.get("mdl.add_dataset_buffer", dataset, buffer)
        return Port(buffer, address, size, home=address)

    def point_inputs(self, addresses: Mapping[str, int]) -> None:
        """Moves the inputs among these to other memory of the same size."""
        for name in addresses.keys() & self.inputs.keys():
            self._point(self.inputs[name], addresses[name])

    def point_outputs(self, addresses: Mapping[str, int]) -> None:
        """Moves these outputs to other memory of the same size, and all others to their own."""
        for name, port in self.outputs.items():
            self._point(port, addresses.get(name, port.home))

    def _point(self, port: Port, address: int) -> None:
        if port.address != address:
            self._acl.do("update_data_buffer", port.buffer, address, port.size)
            port.address = address

    def execute(self, graph: Graph) -> None:
        """Queues a run in the shapes of a graph."""
        if self.in_gears:
            self._choose_gear(graph)
        arguments = (self._id, self._input_dataset, self._output_dataset, self._device.stream)
        self._acl.do("mdl.execute_async", *arguments)

    def _choose_gear(self, graph: Graph) -> None:
        """Says the dimensions of all inputs, one after the other, in the order of the OM."""
        index = self._acl.get("mdl.get_input_index_by_name", self._desc, GEAR_INPUT)
        shapes = {tensor.name: tensor.shape for tensor in graph.inputs}
        dims = [size for name in self.inputs if name in shapes for size in shapes[name]]
        gear = {"name": GEAR_INPUT, "dimCount": len(dims), "dims": dims}
        arguments = (self._id, self._input_dataset, index, gear)
        self._acl.do("mdl.set_input_dynamic_dims", *arguments)
