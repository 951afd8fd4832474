"""The built library of kernels: whether it is there and fits, and what it can do on this CPU."""

import ctypes
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import SessionError
from runtime.kernels.build import LIBRARY
from runtime.kernels.layout import KERNELS_VERSION

__all__ = [
    "Kernels",
]

BUILD_IT = "run `python -m runtime.kernels.build`"
FUNCTIONS = (
    "kernels_instruction_set",
    "kernels_select",
    "kernels_multiply",
    "kernels_attend",
    "RegisterCustomOps",
)


class Attention(ctypes.Structure):
    """As in native/attention.h."""

    _fields_ = (
        *((size, ctypes.c_int64) for size in ("batch_size", "num_rows", "num_heads")),
        *((size, ctypes.c_int64) for size in ("kv_num_heads", "head_dim", "cache_rows")),
        *((array, ctypes.c_void_p) for array in ("query", "key", "value")),
        *((size, ctypes.c_int64) for size in ("query_stride", "key_stride", "value_stride")),
        *((array, ctypes.c_void_p) for array in ("cos", "sin", "key_scale", "value_scale")),
        *((array, ctypes.c_void_p) for array in ("last_positions", "keys", "values", "y")),
    )


class Kernels:
    """The library, loaded.

    Attributes:
        path: the file that ONNX Runtime registers.
        instruction_sets: those that this CPU has, fastest first.
    """

    def __init__(self, path: Path = LIBRARY) -> None:
        """Loads it.

        Raises:
            SessionError: it is missing, cannot be loaded or is of another version.
        """
        self.path = path
        self._library = _load(path)
        self._library.kernels_instruction_set.restype = ctypes.c_char_p
        self.instruction_sets = tuple(self._names())

    def _names(self) -> list[str]:
        names: list[str] = []
        while name := self._library.kernels_instruction_set(len(names)):
            names.append(name.decode())
        return names

    def select(self, instruction_set: str | None) -> None:
        """Chooses for sessions that are opened from now on; None for the fastest."""
        name = None if instruction_set is None else instruction_set.encode()
        if self._library.kernels_select(name):
            raise ValueError(f"{instruction_set}: this CPU has {', '.join(self.instruction_sets)}")

    def multiply(
        self,
        x: NDArray[np.float32],
        levels: NDArray[np.uint8],
        scales: NDArray[np.float16],
        num_rows: int,
        *,
        bits: int,
        block_size: int,
    ) -> NDArray[np.float32]:
        """The product itself, in this thread.

        Args:
            x: (M, K).
            levels: as runtime/kernels/native/product.h lays them out.
            scales: (tiles, blocks, TILE_ROWS).
            num_rows: N, rows of the weight.
            bits: of a level.
            block_size: columns that share a scale.

        Returns:
            (M, N).
        """
        y = np.empty((len(x), num_rows), np.float32)
        sizes = [ctypes.c_int64(size) for size in (*x.shape, num_rows, block_size, bits)]
        failed = self._library.kernels_multiply(
            _address(x),
            *sizes[:2],
            _address(levels),
            _address(scales),
            *sizes[2:],
            _address(y),
        )
        assert not failed, "sizes are those of the layout"
        return y

    def attend(
        self,
        query: NDArray[np.float32],
        key: NDArray[np.float32],
        value: NDArray[np.float32],
        *,
        cos: NDArray[np.float32],
        sin: NDArray[np.float32],
        key_scale: NDArray[np.float32],
        value_scale: NDArray[np.float32],
        last_positions: NDArray[np.int32],
        keys: NDArray[np.int8],
        values: NDArray[np.int8],
    ) -> NDArray[np.float32]:
        """Attention over an int8 cache, which the new rows are appended to, in this thread.

        Args:
            query: (B, S, H, D), not turned yet.
            key: (B, S, G, D), not turned yet.
            value: (B, S, G, D).
            cos: (rows, D / 2), of every position.
            sin: (rows, D / 2).
            key_scale: (G, D), what 1 in the cache stands for.
            value_scale: (G, D).
            last_positions: (B,), of each sequence's last new row.
            keys: (B, G, rows, D), the cache.
            values: (B, G, rows, D).

        Returns:
            (B, S, H, D).

        Raises:
            ValueError: D is no multiple of 16 or above 256, H none of G, or a new row lies outside
                the cache.
        """
        batch_size, num_rows, num_heads, head_dim = query.shape
        kv_num_heads, cache_rows = keys.shape[1:3]
        y = np.empty(query.shape, np.float32)
        widths = [heads * head_dim for heads in (num_heads, kv_num_heads, kv_num_heads)]
        angles_and_cache = (cos, sin, key_scale, value_scale, last_positions, keys, values, y)
        attention = Attention(
            *(batch_size, num_rows, num_heads, kv_num_heads, head_dim, cache_rows),
            *(_address(new) for new in (query, key, value)),
            *widths,
            *(_address(array) for array in angles_and_cache),
        )
        if self._library.kernels_attend(ctypes.byref(attention)):
            raise ValueError(
                f"no attention of {num_heads} heads of {head_dim} channels up to rows "
                f"{last_positions.tolist()} of {cache_rows}"
            )
        return y


def _address(array: NDArray[Any]) -> ctypes.c_void_p:
    assert array.flags.c_contiguous, "the library knows no strides"
    return ctypes.c_void_p(array.ctypes.data)


def _load(path: Path) -> ctypes.CDLL:
    if not path.exists():
        raise SessionError(
            "the kernels that the bundle needs are not built", got=f"no {path}", next_step=BUILD_IT
        )
    try:
        _check_length(path)
        library = ctypes.CDLL(os.fspath(path))
        version = int(library.kernels_version())
        for name in FUNCTIONS if version == KERNELS_VERSION else ():
            getattr(library, name)
    except (OSError, AttributeError) as error:
        raise SessionError(
            "the library of kernels cannot be loaded", got=str(error), next_step=BUILD_IT
        ) from error
    if version != KERNELS_VERSION:
        raise SessionError(
            f"{path} is of another version",
            got=f"version {version}",
            allowed=f"version {KERNELS_VERSION}",
            next_step=BUILD_IT,
        )
    return library


def _check_length(path: Path) -> None:
    """Refuses a file that was cut off: loading one may end the process.

    An ELF-64 file ends with its section headers; the header says where they are.

    Raises:
        OSError: it was, or it is no such file.
    """
    with path.open("rb") as stream:
        header = stream.read(64)
    if len(header) < 64 or header[:4] != b"\x7fELF":
        raise OSError(f"{path} is no library")
    [start] = struct.unpack_from("<Q", header, 0x28)
    size, count = struct.unpack_from("<HH", header, 0x3A)
    if path.stat().st_size < start + size * count:
        raise OSError(f"{path} was cut off")
