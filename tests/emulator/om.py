"""The emulated OM: what the emulated atc writes and the emulated acl loads.

It shares nothing with the real format but its file name: the first bytes are MAGIC, then come a
JSON header, the protobuf of the graph without its weights, and the bytes of inlined weights.
"""

import json
import struct
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final

import ml_dtypes
import numpy as np

__all__ = ["MAGIC", "MBATCH", "Gear", "Om", "OmTensor", "OmWeight", "numpy_dtype", "read_om"]

MAGIC: Final = b"EMULATED-OM\x001\n"
# Input that ATC adds to a model with gears: ge, docs/zh/design/features/dynamic_gear.md.
MBATCH: Final = "ascend_mbatch_shape_data"

_LENGTH: Final = struct.Struct("<Q")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy type of a type name; bfloat16 and int4 come from ml_dtypes."""
    if name in ("bfloat16", "int4"):
        scalar: type[np.generic] = vars(ml_dtypes)[name]
        return np.dtype(scalar)
    return np.dtype(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class OmTensor:
    """An input or output; the dims are those of the largest gear.

    in_place: a RefData, whose memory a run may write.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    in_place: bool = False

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return num_bytes(self.dtype, self.dims)


@dataclass(frozen=True, slots=True, kw_only=True)
class OmWeight:
    """A constant: its bytes lie in weight/<file>, or in the OM at offset when file is empty.

    layout "transposed" says that the (k, n) matrix was stored as (n, k), as a compiler that
    chooses another format for a graph would do.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    file: str = ""
    offset: int = 0
    layout: str = "nd"

    @property
    def size(self) -> int:
        """Bytes of the weight, unpadded."""
        return num_bytes(self.dtype, self.dims)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gear:
    """One choice of the dynamic dims: the numbers, and the dims that follow from them."""

    values: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Om:
    """Everything of an OM but the graph and the inlined weights.

    operators: whose the graph's are, "onnx" or "ge".
    conversions: the products whose right factor is converted to blocks in every call.
    """

    soc_name: str
    precision_mode: str
    cann_version: str
    inputs: tuple[OmTensor, ...]
    outputs: tuple[OmTensor, ...]
    weights: tuple[OmWeight, ...]
    dynamic_inputs: tuple[tuple[int, ...], ...]  # dims of the inputs with -1; empty without gears
    gears: tuple[Gear, ...]
    workspace_size: int
    operators: str = "onnx"
    conversions: tuple[str, ...] = ()

    def write_head(self, file: BinaryIO, protobuf: bytes) -> None:
        """Writes all that comes before the inlined weights."""
        header = json.dumps(asdict(self)).encode()
        file.write(MAGIC + _LENGTH.pack(len(header)) + header)
        file.write(_LENGTH.pack(len(protobuf)) + protobuf)


def num_bytes(dtype: str, dims: tuple[int, ...]) -> int:
    """Bytes of a tensor; two int4 share a byte."""
    count = int(np.prod(dims, dtype=np.int64))
    return (count + 1) // 2 if dtype == "int4" else count * numpy_dtype(dtype).itemsize


def read_om(file: BinaryIO) -> tuple[Om, bytes, int]:
    """The header, the protobuf of the graph and where the inlined weights begin.

    Raises:
        ValueError: the file is not an emulated OM.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("not an emulated OM")
    header = json.loads(file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0]))
    protobuf = file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0])
    return _om_from_json(header), protobuf, file.tell()


def _om_from_json(header: dict[str, Any]) -> Om:
    def tensors(key: str) -> tuple[OmTensor, ...]:
        return tuple(OmTensor(**{**item, "dims": tuple(item["dims"])}) for item in header[key])

    plain = ("soc_name", "precision_mode", "cann_version", "workspace_size", "operators")
    return Om(
        **{key: header[key] for key in plain},
        conversions=tuple(header["conversions"]),
        inputs=tensors("inputs"),
        outputs=tensors("outputs"),
        weights=tuple(OmWeight(**{**w, "dims": tuple(w["dims"])}) for w in header["weights"]),
        dynamic_inputs=tuple(tuple(dims) for dims in header["dynamic_inputs"]),
        gears=tuple(
            Gear(
                values=tuple(gear["values"]),
                inputs=tuple(tuple(dims) for dims in gear["inputs"]),
                outputs=tuple(tuple(dims) for dims in gear["outputs"]),
            )
            for gear in header["gears"]
        ),
    )
