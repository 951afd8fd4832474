"""Builds small models of GE operators, written as torchair writes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.emulator.ge.call import Array
from tests.emulator.ge.proto import GE_TYPES, PROTO_TYPES, new_model

__all__ = ["Air", "K", "appended", "ge_type", "half", "product"]

K = 64
_RNG = np.random.default_rng(0)

Given = str | Sequence[str] | None
_NUMBERS = {name: number for number, name in PROTO_TYPES.items()}


def ge_type(dtype: str) -> int:
    """The number that attributes have for an element type."""
    return next(number for number, name in GE_TYPES.items() if name == dtype)


class Air:
    """A model in the making; every method gives the value that it adds, as "name:output"."""

    def __init__(self) -> None:
        self.model = new_model()
        self._graph = self.model.graph.add(name="graph")

    def data(self, name: str, dtype: str, dims: Sequence[int], kind: str = "Data") -> str:
        """An input; its index is that of its turn."""
        op = self._graph.op.add(name=name, type=kind)
        op.attr["index"].i = sum(other.type in ("Data", "RefData") for other in self._graph.op) - 1
        for description in (op.input_desc.add(name="x"), op.output_desc.add(name="y")):
            _describe(description, dtype, dims)
        return f"{name}:0"

    def const(self, array: Array, name: str = "") -> str:
        """A constant with its bytes in the model."""
        name = name or f"Const_{len(self._graph.op)}"
        op = self._graph.op.add(name=name, type="Const")
        tensor = op.attr["value"].t
        tensor.data = array.tobytes()
        _describe(tensor.desc, array.dtype.name, array.shape)
        _describe(op.output_desc.add(name="y"), array.dtype.name, array.shape)
        return f"{name}:0"

    def file_constant(self, name: str, array: Array, path: Path, **attributes: int) -> str:
        """A constant whose bytes are those of a file, which is written."""
        path.write_bytes(bytes(attributes.get("offset", 0)) + array.tobytes())
        op = self._graph.op.add(name=name, type="FileConstant")
        op.attr["file_path"].s = str(path).encode()
        op.attr["shape"].list.i.extend(array.shape)
        op.attr["shape"].list.val_type = 2
        op.attr["dtype"].dt = ge_type(array.dtype.name)
        for key, value in attributes.items():
            op.attr[key].i = value
        if attributes:
            op.attr["location"].s = str(path).encode()
        op.output_desc.add(name="y")
        return f"{name}:0"

    def op(
        self,
        kind: str,
        inputs: Mapping[str, Given],
        attributes: Mapping[str, Any] | None = None,
        *,
        outputs: int = 1,
        after: Sequence[str] = (),
    ) -> str:
        """An operator; a list is a dynamic input, None an optional one that is not given."""
        name = f"{kind}_{len(self._graph.op)}"
        op = self._graph.op.add(name=name, type=kind)
        op.input.extend(f"{source.rpartition(':')[0]}:-1" for source in after)
        for key, given in inputs.items():
            if given is None or isinstance(given, str):
                op.input.append(given or "")
                op.input_desc.add(name=key)
                continue
            for number, source in enumerate(given):
                op.input.append(source)
                op.input_desc.add(name=f"{key}{number}")
        for key, value in (attributes or {}).items():
            _set(op.attr[key], value)
        for number in range(outputs):
            op.output_desc.add(name=f"y{number}")
        return f"{name}:0"

    def ints(self, *numbers: int) -> str:
        """A constant that lists numbers."""
        return self.const(np.array(numbers, np.int64))

    def save(self, path: Path, *outputs: str) -> Path:
        """Ends the graph and writes the file."""
        op = self._graph.op.add(name="NetOutput", type="NetOutput")
        op.input.extend(outputs)
        for number in range(len(outputs)):
            op.input_desc.add(name=f"input{number}")
        path.write_bytes(self.model.SerializeToString())
        return path


def _describe(description: Any, dtype: str, dims: Sequence[int]) -> None:
    description.dtype = _NUMBERS[dtype]
    description.layout = "ND"
    description.shape.dim.extend(dims)


def _set(attribute: Any, value: Any) -> None:
    if isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, int):
        attribute.i = value
    elif isinstance(value, float):
        attribute.f = value
    elif isinstance(value, str):
        attribute.s = value.encode()
    else:
        attribute.list.i.extend(value)
        attribute.list.val_type = 2


def half(*dims: int) -> Array:
    """Numbers of a normal distribution, in float16."""
    return _RNG.standard_normal(dims).astype(np.float16)


def product(path: Path, weight: Array, rows: int = 4, **attributes: int) -> Path:
    """y = x @ w, the weight in a file of its own."""
    air = Air()
    x = air.data("x", "float16", (rows, K))
    w = air.file_constant("w", weight, path.with_suffix(".bin"), **attributes)
    return air.save(path, air.op("MatMul", {"x1": x, "x2": w, "bias": None}))


def appended(path: Path, *, ordered: bool = True, cache: int = 8) -> Path:
    """A row is written into a cache, and the cache is multiplied by two."""
    air = Air()
    rows = air.data("rows", "float16", (1, 1, K))
    start = air.data("start", "int64", (1,))
    past = air.data("past_key.0", "float16", (1, cache, K), "RefData")
    given = {"var": past, "indices": start, "updates": rows}
    written = air.op("Scatter", given, {"reduce": "update", "axis": 1})
    after = [written] if ordered else []
    two = air.const(np.array(2, np.float16))
    return air.save(path, air.op("Mul", {"x1": past, "x2": two}, after=after))
