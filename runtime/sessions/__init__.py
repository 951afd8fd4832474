"""One way to open a session per target; choosing one is a table look-up."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from runtime.bundle.reader import Bundle
from runtime.errors import SessionError
from runtime.sessions.base import Chunk, Session

__all__ = ["SESSIONS", "Backend", "Chunk", "Session", "open_session"]

Opener = Callable[[Bundle, Path | None, int], Session]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What opens the bundles of a target; imported when chosen, since each needs its packages.

    traces: whether it can leave the times of all kernels.
    many_devices: whether a device other than 0 can be asked for.
    """

    module: str
    opener: str
    traces: bool = True
    many_devices: bool = False


PORTABLE = Backend(module="runtime.sessions.onnx.portable", opener="open_portable")
CPU = Backend(module="runtime.sessions.onnx.cpu", opener="open_cpu")
ACL = Backend(
    module="runtime.sessions.acl.session", opener="AclSession", traces=False, many_devices=True
)
ASCEND_CHIPS = ("310p1", "310p3", "310b1", "910b1", "910b2", "910b3", "910b4")
SESSIONS = {"portable": PORTABLE, "cpu": CPU, **dict.fromkeys(ASCEND_CHIPS, ACL)}


def open_session(bundle: Bundle, trace: Path | None = None, device: int = 0) -> Session:
    """Opens the session that the bundle was compiled for.

    Args:
        bundle: the bundle.
        trace: directory where closing the session leaves the times of all kernels.
        device: which device of the machine.

    Raises:
        SessionError: no session for the target, its backend is not installed, or it cannot do
            what is asked.
    """
    target = bundle.manifest.target
    if target not in SESSIONS:
        raise SessionError(
            "no session for the bundle's target", got=target, allowed=", ".join(SESSIONS)
        )
    backend = SESSIONS[target]
    if trace is not None and not backend.traces:
        raise SessionError(
            f"target {target} leaves no trace", next_step="run it under CANN's msprof instead"
        )
    if device != 0 and not backend.many_devices:
        raise SessionError(f"target {target} has one device", got=f"device {device}", allowed="0")
    try:
        open_bundle: Opener = getattr(import_module(backend.module), backend.opener)
    except ModuleNotFoundError as error:
        raise SessionError(
            f"target {target} needs the Python package {error.name}",
            next_step="install alpaca2-toolchain with the extra of that target, e.g. [cpu]",
        ) from error
    return open_bundle(bundle, trace, device)
