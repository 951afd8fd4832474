"""Gives ONNX Runtime the kernels that a bundle needs."""

from runtime.errors import SessionError
from runtime.kernels.layout import KERNELS_VERSION
from runtime.kernels.library import Kernels
from runtime.sessions.onnx.quiet_ort import ort

__all__ = ["register_kernels"]


def register_kernels(options: ort.SessionOptions, version: int = KERNELS_VERSION) -> None:
    """Makes the operators of runtime/kernels known to sessions with these options.

    Args:
        options: of sessions that are opened later.
        version: of the kernels that the graphs call.

    Raises:
        SessionError: the library is missing, cannot be loaded, or has other kernels.
    """
    if version > KERNELS_VERSION:  # later versions only add operators
        raise SessionError(
            "the bundle needs other kernels than these",
            got=f"version {version}",
            allowed=f"version {KERNELS_VERSION} or older",
            next_step="compile the bundle again with this version, or run it with the one that "
            "compiled it",
        )
    options.register_custom_ops_library(str(Kernels().path))
