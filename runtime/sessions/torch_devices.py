"""The devices that torch programs run on: what differs between them, behind one seam."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.errors import SessionError
from runtime.sessions.base import SessionOptions
from runtime.threads import usable_threads

__all__ = ["Call", "Cpu", "Cuda", "TorchDevice"]

Call = Callable[[], Tensor]  # a program on tensors that stay where they are -> its logits

WARM_UPS = 2  # calls before a capture: what is set up on first use cannot be captured


class TorchDevice(Protocol):
    """Where the tensors of a session lie, and how its programs are called."""

    name: str
    """As torch spells it, such as cuda:0."""
    index: int
    """Of the device among its kind, as a package is loaded for it."""

    def facts(self) -> Mapping[str, str]:
        """What machine code is made for, by the names that a package has them under."""
        ...

    def fixed(self, call: Call) -> Call:
        """The same call, made faster by what may be kept from one to the next."""
        ...

    def to_host(self, tensor: Tensor) -> NDArray[np.float32]:
        """The numbers of a tensor; valid until the next call with one of this shape."""
        ...


class Cpu:
    """The CPU of this machine."""

    name, index = "cpu", -1

    def __init__(self, options: SessionOptions) -> None:
        torch.set_num_threads(options.threads or usable_threads())

    def facts(self) -> Mapping[str, str]:
        """See TorchDevice.facts."""
        return {"cpu": torch.backends.cpu.get_cpu_capability()}

    def fixed(self, call: Call) -> Call:
        """See TorchDevice.fixed: nothing is kept."""
        return call

    def to_host(self, tensor: Tensor) -> NDArray[np.float32]:
        """See TorchDevice.to_host: they are here."""
        numbers: NDArray[np.float32] = tensor.numpy()
        return numbers


class Cuda:
    """One NVIDIA GPU.

    Raises:
        SessionError: torch sees no GPU, or none of this number.
    """

    def __init__(self, options: SessionOptions) -> None:
        if not torch.cuda.is_available():
            raise SessionError(
                "the bundle runs on an NVIDIA GPU, and torch sees none",
                got=f"torch {torch.__version__}",
                allowed="torch's CUDA build, and NVIDIA's driver",
                next_step="install both, or compile the bundle for torch-cpu or cpu",
            )
        count = torch.cuda.device_count()
        if options.device >= count:
            raise SessionError(
                "no such GPU",
                got=f"device {options.device}",
                allowed=", ".join(map(str, range(count))),
            )
        self.name, self.index = f"cuda:{options.device}", options.device
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._host: dict[tuple[int, ...], Tensor] = {}

    def facts(self) -> Mapping[str, str]:
        """See TorchDevice.facts."""
        major, minor = torch.cuda.get_device_capability(self.name)
        return {"gpu": f"sm_{major}{minor}"}

    def fixed(self, call: Call) -> Call:
        """See TorchDevice.fixed: one launch of a CUDA graph instead of hundreds of kernels.

        The warm-ups write the rows of this call into the cache, as the call itself will.
        """
        with torch.cuda.device(self.name):
            stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    call()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # One pool for all: each is read out before the next is launched.
            with torch.cuda.graph(graph, pool=self._pool):
                logits = call()

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay

    def to_host(self, tensor: Tensor) -> NDArray[np.float32]:
        """See TorchDevice.to_host: into memory that the GPU copies to by itself."""
        shape = tuple(tensor.shape)
        if shape not in self._host:
            self._host[shape] = torch.empty(shape, dtype=tensor.dtype, pin_memory=True)
        self._host[shape].copy_(tensor)
        numbers: NDArray[np.float32] = self._host[shape].numpy()
        return numbers
