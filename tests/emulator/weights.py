"""The bytes of ONNX constants: read in blocks, written as the weight files of ATC.

Takes constants of any size; keeps holes of sparse files, so that 14 GB of zeros cost nothing.
"""

import errno
import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.emulator.atc_errors import AtcError
from tests.emulator.om import num_bytes

__all__ = ["WeightSource", "store", "type_name", "write_sparse"]

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
class WeightSource:
    """A constant of a model that lies in a directory."""

    tensor: onnx.TensorProto
    directory: Path

    @property
    def size(self) -> int:
        """Bytes of the constant."""
        return num_bytes(type_name(self.tensor.data_type), tuple(self.tensor.dims))

    def blocks(self) -> Iterator[bytes]:
        """Yields the bytes, little by little.

        Raises:
            AtcError: the external data is missing or has another size.
        """
        if self.tensor.data_location == TensorProto.EXTERNAL:
            yield from self._external_blocks()
            return
        data = self.tensor.raw_data or numpy_helper.to_array(self.tensor).tobytes()
        view = memoryview(data)
        for start in range(0, len(view), BLOCK):
            yield bytes(view[start : start + BLOCK])

    @property
    def is_hole(self) -> bool:
        """Whether it is a hole of a sparse file, hence zeros that nobody needs to read."""
        if self.tensor.data_location != TensorProto.EXTERNAL or not self.size:
            return False
        fields = {entry.key: entry.value for entry in self.tensor.external_data}
        path, start = self.directory / fields["location"], int(fields.get("offset", 0))
        if not path.is_file() or path.stat().st_size < start + self.size:
            return False
        with path.open("rb") as file:
            return _data_after(file.fileno(), start) >= start + self.size

    def matrix(self) -> np.ndarray:
        """The whole constant, for the few cases that need it at once."""
        data = b"".join(self.blocks())
        dtype = helper.tensor_dtype_to_np_dtype(self.tensor.data_type)
        return np.frombuffer(data, dtype).reshape(tuple(self.tensor.dims))

    def _external_blocks(self) -> Iterator[bytes]:
        fields = {entry.key: entry.value for entry in self.tensor.external_data}
        path = self.directory / fields["location"]
        start, rest = int(fields.get("offset", 0)), int(fields.get("length", self.size))
        if not path.is_file():
            raise _open_error(path, "No such file or directory")
        if rest != self.size or path.stat().st_size < start + rest:
            raise _open_error(path, f"constant {self.tensor.name} needs {self.size} bytes")
        with path.open("rb", buffering=0) as file:
            while rest:
                if _data_after(file.fileno(), start) >= start + BLOCK:
                    block = _ZEROS[:rest]
                else:
                    file.seek(start)
                    block = file.read(min(BLOCK, rest))
                start, rest = start + len(block), rest - len(block)
                yield block


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
