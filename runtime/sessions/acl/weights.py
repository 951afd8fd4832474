"""Weight files on the device: each distinct one once, whichever models take it."""

import ctypes
from collections.abc import Callable, Iterable

import numpy as np

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import Bundle
from runtime.errors import SessionError
from runtime.sessions.acl.device import AclDevice, aligned, charged

__all__ = ["Register", "find_register", "put_on_device", "weight_bytes"]

# aclmdlSetExternalWeightAddress(handle, file name, address, size): pyACL does not wrap it.
Register = Callable[[int, bytes, int, int], int]


def find_register() -> Register | None:
    """The function of libascendcl, or None where CANN is older than 8.5.

    Raises:
        SessionError: the library cannot be loaded.
    """
    try:
        library = ctypes.CDLL("libascendcl.so")
    except OSError as error:
        raise SessionError(
            "libascendcl.so cannot be loaded",
            got=str(error),
            next_step="source set_env.sh of CANN in this shell",
        ) from error
    try:
        function = library.aclmdlSetExternalWeightAddress
    except AttributeError:
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
    function.restype = ctypes.c_int
    register: Register = function
    return register


def weight_bytes(bundle: Bundle, graphs: Iterable[Graph], shared: bool) -> int:
    """Device memory of the weights of models: each file once, or once for every model."""
    files = [relative for graph in graphs for relative in graph.weights]
    taken = set(files) if shared else files
    return sum(charged(bundle.manifest.files[relative].size) for relative in taken)


def put_on_device(
    bundle: Bundle, graphs: Iterable[Graph], device: AclDevice
) -> dict[str, tuple[int, int]]:
    """Copies every distinct weight file to the device.

    Returns:
        Path in the bundle -> address and size on the device.
    """
    placed: dict[str, tuple[int, int]] = {}
    for relative in sorted({relative for graph in graphs for relative in graph.weights}):
        size = bundle.manifest.files[relative].size
        address = device.allocate(size)
        # Mapped, so that the file never is whole in the host's memory.
        device.upload(address, np.memmap(bundle.file(relative), np.uint8, mode="r"))
        placed[relative] = (address, aligned(size))
    return placed
