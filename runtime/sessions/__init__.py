"""One way to open a session per backend; choosing one is a table look-up."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from runtime.bundle.manifest import Backend
from runtime.bundle.reader import Bundle
from runtime.errors import SessionError
from runtime.sessions.base import Chunk, Session

__all__ = ["SESSIONS", "Chunk", "Opener", "Session", "open_session"]

Open = Callable[[Bundle, Path | None, int], Session]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """What opens the bundles of a backend; imported when chosen, since each needs its packages.

    extra: of alpaca2-toolchain that brings the packages; empty where none does.
    traces: whether it can leave the times of all kernels.
    many_devices: whether a device other than 0 can be asked for.
    """

    module: str
    name: str
    extra: str = ""
    traces: bool = True
    many_devices: bool = False


SESSIONS: dict[Backend, Opener] = {
    "portable": Opener(
        module="runtime.sessions.onnx.portable", name="open_portable", extra="[cpu]"
    ),
    "onnxruntime": Opener(module="runtime.sessions.onnx.cpu", name="open_cpu", extra="[cpu]"),
    "acl": Opener(
        module="runtime.sessions.acl.session", name="AclSession", traces=False, many_devices=True
    ),
}


def open_session(bundle: Bundle, trace: Path | None = None, device: int = 0) -> Session:
    """Opens the session that the bundle was compiled for.

    Args:
        bundle: the bundle.
        trace: directory where closing the session leaves the times of all kernels.
        device: which device of the machine.

    Raises:
        SessionError: no session for the backend, its packages are not installed, or it cannot do
            what is asked.
    """
    backend = bundle.manifest.backend
    if backend not in SESSIONS:
        raise SessionError(
            "no session for the bundle's backend", got=backend, allowed=", ".join(SESSIONS)
        )
    opener = SESSIONS[backend]
    if trace is not None and not opener.traces:
        raise SessionError(
            f"backend {backend} leaves no trace",
            next_step="run it under CANN's msprof instead",
            code="unsupported_parameter",
            param="trace",
        )
    if device != 0 and not opener.many_devices:
        raise SessionError(
            f"backend {backend} has one device",
            got=f"device {device}",
            allowed="0",
            code="unsupported_parameter",
            param="device",
        )
    try:
        open_bundle: Open = getattr(import_module(opener.module), opener.name)
    except ModuleNotFoundError as error:
        raise SessionError(
            f"backend {backend} needs the Python package {error.name}",
            next_step=f"install alpaca2-toolchain{opener.extra}",
        ) from error
    return open_bundle(bundle, trace, device)
