"""One operator with what goes into it: the same for shape inference and for computing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.emulator.ge.graph import Node
from tests.emulator.ge.proto import GE_TYPES
from tests.emulator.om import numpy_dtype

__all__ = ["Array", "Call", "Operator", "Type", "like", "rounded"]

Array = np.ndarray[Any, Any]
Results = tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """Name of the element type, and dims."""

    dtype: str
    dims: tuple[int, ...]


def _no_memory(_: tuple[str, ...], make: Callable[[], Array]) -> Array:
    return make()


@dataclass(frozen=True, slots=True)
class Call:
    """A node and its inputs by name; what an optional input lacks is absent.

    `remembered` keeps what is made of constants alone from one run to the next.
    """

    node: Node
    inputs: Mapping[str, Array]
    remembered: Callable[[tuple[str, ...], Callable[[], Array]], Array] = _no_memory

    def __getitem__(self, name: str) -> Array:
        return self.inputs[name]

    def __contains__(self, name: str) -> bool:
        return name in self.inputs

    def ints(self, name: str) -> tuple[int, ...]:
        """An input that lists numbers."""
        return tuple(int(number) for number in self.inputs[name].reshape(-1))

    def int(self, name: str) -> int:
        """An input that is one number."""
        (number,) = self.ints(name)
        return number

    def many(self, prefix: str) -> list[Array]:
        """A dynamic input: prefix0, prefix1 and so on."""
        found: list[Array] = []
        while f"{prefix}{len(found)}" in self.inputs:
            found.append(self.inputs[f"{prefix}{len(found)}"])
        return found

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.node.attributes.get(name, default)

    def dtype_attr(self, name: str) -> np.dtype[Any]:
        """An attribute that names an element type."""
        return numpy_dtype(GE_TYPES[self.attr(name)])

    def wide(self, name: str) -> Array:
        """An input as float32."""
        return self.remembered((name,), lambda: self.inputs[name].astype(np.float32))


@dataclass(frozen=True, slots=True)
class Operator:
    """What an operator computes, which of its inputs decide shapes, and its types without work.

    infer: where computing on zeros would cost too much.
    """

    compute: Callable[[Call], Results]
    shaped_by: tuple[str, ...] = ()
    infer: Callable[[Call], tuple[Type, ...]] | None = None


def like(*names: str) -> Callable[[Call], tuple[Type, ...]]:
    """Results that have the types of inputs."""
    return lambda call: tuple(Type(call[name].dtype.name, call[name].shape) for name in names)


def rounded(value: Array, operand: Array) -> Array:
    """Computed in float32 and rounded to the type of an operand, as a kernel stores it."""
    return value.astype(operand.dtype)
