"""The bytes of constants: read in blocks, written as the weight files of ATC.

Takes constants of any size; keeps holes of sparse files, so that 14 GB of zeros cost nothing.
"""

import errno
import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.emulator.atc_errors import AtcError
from tests.emulator.om import num_bytes, numpy_dtype

__all__ = [
    "Constant",
    "FileBytes",
    "WeightSource",
    "in_blocks",
    "store",
    "type_name",
    "whole",
    "write_sparse",
]

BLOCK: Final = 4 * 2**20
_ZEROS: Final = bytes(BLOCK)


def type_name(element: int) -> str:
    """The name of an ONNX element type as numpy spells it."""
    if element == TensorProto.BFLOAT16:
        return "bfloat16"
    if element == TensorProto.INT4:
        return "int4"
    return str(helper.tensor_dtype_to_np_dtype(element))


@dataclass(frozen=True, slots=True)
class FileBytes:
    """Bytes that lie in a file."""

    path: Path
    start: int
    size: int

    @property
    def is_there(self) -> bool:
        """Whether the file has them all."""
        return self.path.is_file() and self.path.stat().st_size >= self.start + self.size

    @property
    def is_hole(self) -> bool:
        """Whether it is a hole of a sparse file, hence zeros that nobody needs to read."""
        if not self.size or not self.is_there:
            return False
        with self.path.open("rb") as file:
            return _data_after(file.fileno(), self.start) >= self.start + self.size

    def blocks(self) -> Iterator[bytes]:
        """Yields them, little by little; holes are not read."""
        start, rest = self.start, self.size
        with self.path.open("rb", buffering=0) as file:
            while rest:
                if _data_after(file.fileno(), start) >= start + BLOCK:
                    block = _ZEROS[:rest]
                else:
                    file.seek(start)
                    block = file.read(min(BLOCK, rest))
                start, rest = start + len(block), rest - len(block)
                yield block


class Constant(Protocol):
    """A constant of a model, of any size, wherever it lies."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def dims(self) -> tuple[int, ...]: ...
    @property
    def is_hole(self) -> bool: ...
    def blocks(self) -> Iterator[bytes]: ...


def whole(constant: Constant) -> np.ndarray[Any, Any]:
    """All of a constant, for the few cases that need it at once."""
    data = b"".join(constant.blocks())
    return np.frombuffer(data, numpy_dtype(constant.dtype)).reshape(constant.dims)


def in_blocks(data: bytes) -> Iterator[bytes]:
    """Bytes of memory as blocks() gives those of a file."""
    view = memoryview(data)
    for start in range(0, len(view), BLOCK):
        yield bytes(view[start : start + BLOCK])


@dataclass(frozen=True, slots=True)
class WeightSource:
    """A constant of an ONNX model that lies in a directory."""

    tensor: onnx.TensorProto
    directory: Path

    @property
    def name(self) -> str:
        """Its name in the graph."""
        return str(self.tensor.name)

    @property
    def dtype(self) -> str:
        """Name of its element type."""
        return type_name(self.tensor.data_type)

    @property
    def dims(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.dims)

    @property
    def size(self) -> int:
        """Bytes of the constant."""
        return num_bytes(self.dtype, self.dims)

    @property
    def is_hole(self) -> bool:
        """Whether it is a hole of a sparse file."""
        return self.tensor.data_location == TensorProto.EXTERNAL and self._file().is_hole

    def blocks(self) -> Iterator[bytes]:
        """Yields the bytes, little by little.

        Raises:
            AtcError: the external data is missing or has another size.
        """
        if self.tensor.data_location != TensorProto.EXTERNAL:
            data = self.tensor.raw_data or numpy_helper.to_array(self.tensor).tobytes()
            yield from in_blocks(data)
            return
        file = self._file()
        if not file.path.is_file():
            raise _open_error(file.path, "No such file or directory")
        if file.size != self.size or not file.is_there:
            raise _open_error(file.path, f"constant {self.name} needs {self.size} bytes")
        yield from file.blocks()

    def _file(self) -> FileBytes:
        fields = {entry.key: entry.value for entry in self.tensor.external_data}
        start, size = int(fields.get("offset", 0)), int(fields.get("length", self.size))
        return FileBytes(self.directory / fields["location"], start, size)


def store(blocks: Iterable[bytes], directory: Path) -> str:
    """Writes a constant to directory/weight_<digest> unless it is there, and gives the name.

    Name and unpadded bytes: ge, docs/zh/design/features/external_weight.md.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # Written where the program was called, unless ASCEND_WORK_PATH says otherwise, then renamed:
    # ge, base/common/file_constant_utils, MoveFilePath. Another file system makes that fail.
    place = Path(os.environ.get("ASCEND_WORK_PATH", ".")) / f"tmp_weight_{os.getpid()}_0"
    place.mkdir(exist_ok=True)
    temporary = place / "weight"
    digest = hashlib.sha256()
    with temporary.open("wb") as file:
        for block in blocks:
            # Of a hole its length is hashed, which tells weights apart as well and takes no time.
            digest.update(f"{len(block)} zeros".encode() if _is_zeros(block) else block)
            write_sparse(file.fileno(), block)
    name = f"weight_{digest.hexdigest()}"
    temporary.rename(directory / name)
    place.rmdir()
    return name


def _is_zeros(block: bytes) -> bool:
    return block is _ZEROS or (len(block) <= BLOCK and _ZEROS.startswith(block))


def write_sparse(fd: int, block: bytes) -> None:
    """Appends a block at the current position; zeros become a hole."""
    if _is_zeros(block):
        end = os.lseek(fd, len(block), os.SEEK_CUR)
        os.ftruncate(fd, end)
        return
    view = memoryview(block)
    while view:
        view = view[os.write(fd, view) :]


def _data_after(fd: int, start: int) -> float:
    """Where the next bytes of a sparse file lie; what is before is zeros that nobody reads."""
    try:
        return os.lseek(fd, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # there are none up to the end
            return math.inf
        raise


def _open_error(path: Path, reason: str) -> AtcError:
    text = f"Failed to open file [{path}]. Reason: {reason}."
    return AtcError("E13001", text, title="File_Operation_Error_Open")
