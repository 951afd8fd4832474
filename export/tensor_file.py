"""A file of tensors -> what it holds: names, shapes and types, and the numbers when asked for.

Takes every spelling that torch and safetensors have written. Must not know which tensors a model
has.
"""

import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from export.errors import CheckpointError
from export.weight_files import SAFETENSORS, ZIP, head_of
from runtime.json_file import LFS_POINTER, first_line

__all__ = ["StoredTensor", "TensorFile", "open_tensors"]

# What lies where weights should be, by how it begins, and what to do; then the same for text, which
# has no zero byte where the size of a header stands in safetensors.
STRANGERS = (
    (LFS_POINTER, "a git-lfs pointer", "install git-lfs and run `git lfs pull` there"),
    (b"GGUF", "a GGUF file", "give the checkpoint that it was made from"),
)
TEXTS = (
    (b"<", "a web page or XML", "download the file again"),
    (b"{", "JSON", "download the file again"),
)
# safetensors' words for types, in torch's.
DTYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "I32": "int32",
    "I64": "int64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor of a file.

    dtype: in torch's words.
    oddity: what makes it no plain array of numbers, such as "sparse"; "" for a plain one.
    read: gives it.
    """

    shape: tuple[int, ...]
    dtype: str
    oddity: str = ""
    read: Callable[[], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFile:
    """What a file holds.

    aliases: names that were not stored again, with the name of the tensor that they share.
    """

    tensors: dict[str, StoredTensor]
    aliases: dict[str, str] = field(default_factory=dict)


def open_tensors(file: Path) -> TensorFile:
    """Opens a file of tensors; numbers are read, or mapped, when asked for.

    Raises:
        CheckpointError: missing, truncated, not of these formats, or it would run code.
    """
    try:
        _refuse_strangers(file)
        return _open_safetensors(file) if file.suffix == SAFETENSORS else _open_torch(file)
    except FileNotFoundError as error:
        raise CheckpointError(f"shard {file} is missing") from error
    except IsADirectoryError as error:
        raise CheckpointError(f"shard {file} is a directory") from error


def _refuse_strangers(file: Path) -> None:
    head = head_of(file)
    if not head:
        raise CheckpointError(f"shard {file} is empty", next_step="copy or download it again")
    for begin, name, next_step in STRANGERS if b"\0" in head else STRANGERS + TEXTS:
        if head.startswith(begin):
            raise CheckpointError(f"shard {file} is {name}, no weights", next_step=next_step)


def _open_torch(file: Path) -> TensorFile:
    mapped = head_of(file).startswith(ZIP)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's, of what is refused by name
            tensors = torch.load(file, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(file, error) from error
    except Exception as error:  # whatever the bytes of others make an unpickler raise
        raise _unreadable(file, error) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise CheckpointError(
            f"shard {file} is not a table of tensors",
            got=_contents(tensors),
            next_step="save the model's state_dict() alone",
        )
    return TensorFile(tensors={name: _stored(tensor) for name, tensor in tensors.items()})


def _refused(file: Path, error: pickle.UnpicklingError) -> CheckpointError:
    """What torch's reader refuses: a name of code, or an opcode that it does not know."""
    if "GLOBAL" in str(error):
        return CheckpointError(
            f"shard {file} holds more than tensors and was not loaded",
            next_step="it may run code; get the weights from a source you trust",
        )
    return CheckpointError(
        f"shard {file} cannot be read: torch's safe reader does not know this form of pickle",
        next_step="it may be damaged; else load it where you trust it and save it again with "
        "torch.save's own pickle_protocol, 2",
    )


def _contents(value: object) -> str:
    """What else a file holds, such as the state of a training run."""
    if not isinstance(value, dict):
        return type(value).__name__
    return "a table of " + ", ".join(f"{key!r}"[:40] for key in list(value)[:4])


def _stored(tensor: Tensor) -> StoredTensor:
    oddities = {
        "a nested one": tensor.is_nested,
        "sparse": tensor.layout != torch.strided,
        "without numbers, on the meta device": tensor.is_meta,
    }
    return StoredTensor(
        shape=() if tensor.is_nested else tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        oddity=next((name for name, is_so in oddities.items() if is_so), ""),
        read=lambda: tensor.detach().resolve_conj().resolve_neg(),
    )


def _open_safetensors(file: Path) -> TensorFile:
    try:
        handle = safe_open(file, framework="pt")
        names: list[str] = handle.keys()  # type: ignore[no-untyped-call]
        tensors = {}
        for name in names:
            piece = handle.get_slice(name)  # type: ignore[no-untyped-call]
            dtype = piece.get_dtype()
            tensors[name] = StoredTensor(
                shape=tuple(piece.get_shape()),
                dtype=DTYPES.get(dtype, dtype),
                read=partial(handle.get_tensor, name),
            )
        return TensorFile(tensors=tensors, aliases=handle.metadata() or {})  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"shard {file} cannot be read: {first_line(error)}",
        next_step="it may be truncated; copy it again and compare its size",
    )
