"""What an emulated process has: handles, threads, counters, violations and planned failures."""

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tests.emulator import codes
from tests.emulator.memory import Memory

__all__ = ["Buffer", "Config", "Context", "Dataset", "Description", "Event", "State", "Stream"]

T = TypeVar("T")
HANDLE_BASE: Final = 0x0005_0000_0000


@dataclass(eq=False)
class Context:
    """A context of a device; `default` is the one that set_device makes."""

    device: int
    default: bool = False


@dataclass(eq=False)
class Stream:
    """Work in order; it is done when somebody synchronises."""

    context: Context
    queue: deque[Callable[[], int]] = field(default_factory=deque)
    default: bool = False


@dataclass(eq=False)
class Event:
    """A point of a stream; time is set when the stream gets there."""

    recorded: bool = False
    time: float | None = None


@dataclass(eq=False)
class Buffer:
    """An aclDataBuffer."""

    address: int
    size: int


@dataclass(eq=False)
class Dataset:
    """An aclmdlDataset: buffers, the gear that was set, descriptions of tensors."""

    buffers: list[int] = field(default_factory=list)
    gear: tuple[int, ...] | None = None
    descs: dict[int, int] = field(default_factory=dict)


@dataclass(eq=False)
class Description:
    """An aclmdlDesc; it names a model once get_desc has filled it."""

    model: Any = None


@dataclass(eq=False)
class TensorDesc:
    """An aclTensorDesc."""

    dtype: int
    dims: tuple[int, ...]
    format: int


@dataclass(eq=False)
class Config:
    """An aclmdlConfigHandle: its options and the weights that lie on the card already."""

    options: dict[int, int | str] = field(default_factory=dict)
    weights: dict[str, tuple[int, int]] = field(default_factory=dict)


class State:
    """The process as ACL sees it."""

    def __init__(
        self,
        soc_name: str,
        memory_bytes: int,
        reserved_bytes: int,
        num_devices: int,
        cann: str,
        external_weight_api: bool,
    ) -> None:
        self.soc_name, self.num_devices, self.cann = soc_name, num_devices, cann
        self.external_weight_api = external_weight_api
        self.calls: Counter[str] = Counter()
        self.violations: list[str] = []
        self.freed_by_reset: list[str] = []
        self.memory = Memory(memory_bytes, reserved_bytes, self.violate)
        self.handles: dict[int, Any] = {}
        self.models: dict[int, Any] = {}
        self.num_inits = 0
        self.set_counts: Counter[int] = Counter()  # device -> set_device minus reset_device
        self.defaults: dict[int, Context] = {}
        self.lock = threading.RLock()
        self._threads = threading.local()
        self._ids = itertools.count(1)
        self._gone: dict[int, str] = {}
        self._planned: dict[str, tuple[int, int | None]] = {}
        self._error = ""

    def violate(self, text: str) -> None:
        """Notes something that a real machine would not survive."""
        self.violations.append(text)

    def new(self, thing: Any) -> int:
        """A handle for a thing."""
        handle = HANDLE_BASE + 64 * next(self._ids)
        self.handles[handle] = thing
        return handle

    def get(self, handle: int, kind: type[T], where: str) -> T | None:
        """The thing behind a handle; null is an error, anything else wrong is a violation."""
        thing = self.handles.get(handle)
        if isinstance(thing, kind):
            return thing
        if handle:
            what = f"a destroyed {self._gone[handle]}" if handle in self._gone else "no handle"
            self.violate(f"{where}: {handle:#x} is {what}, needed {kind.__name__}")
        return None

    def drop(self, handle: int) -> None:
        """Forgets a handle."""
        self._gone[handle] = type(self.handles.pop(handle)).__name__

    @property
    def context(self) -> Context | None:
        """The context of this thread."""
        context: Context | None = getattr(self._threads, "context", None)
        return context

    @context.setter
    def context(self, context: Context | None) -> None:
        self._threads.context = context

    def stream(self, handle: int, where: str) -> tuple[Stream | None, int]:
        """The stream behind a handle, 0 being the default one, and a return code."""
        context = self.context
        if context is None:
            return None, codes.RT_CONTEXT_NULL
        if handle == 0:
            for thing in self.handles.values():
                if isinstance(thing, Stream) and thing.default and thing.context is context:
                    return thing, codes.OK
            stream = Stream(context, default=True)
            self.new(stream)
            return stream, codes.OK
        found = self.get(handle, Stream, where)
        if found is None:
            return None, codes.INVALID_PARAM
        return (found, codes.OK) if found.context is context else (None, codes.RT_STREAM_CONTEXT)

    def drain(self, stream: Stream) -> int:
        """Does the work of a stream; the first failure is its answer, the rest is dropped."""
        while stream.queue:
            code = stream.queue.popleft()()
            if code:
                stream.queue.clear()
                return code
        return codes.OK

    def plan_failure(self, function: str, k: int, code: int | None) -> None:
        """Makes the k-th call of a function from now on fail, once."""
        self._planned[function] = (self.calls[function] + k, code)

    def planned_failure(self, function: str, default: int) -> int | None:
        """The code with which the current call must fail, or None."""
        count, code = self._planned.get(function, (0, None))
        if count != self.calls[function]:
            return None
        del self._planned[function]
        self.report(f"EZ9999: injected in {function}")
        return default if code is None else code

    def reset_counters(self) -> None:
        """Forgets calls, transfers and planned failures."""
        self.calls.clear()
        self.memory.transfers.clear()
        self._planned.clear()

    def report(self, text: str) -> None:
        """Sets what get_recent_err_msg says next."""
        self._error = text

    def take_error(self) -> str:
        """The newest error, which is told once."""
        text, self._error = self._error, ""
        return text
