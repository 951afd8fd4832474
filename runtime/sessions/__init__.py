"""One way to open a session per target; choosing one is a table look-up."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from runtime.bundle import Bundle
from runtime.errors import SessionError
from runtime.sessions.base import Chunk, Session

Opener = Callable[[Bundle, Path | None], Session]

__all__ = ["SESSIONS", "Chunk", "Session", "open_session"]

# target in the manifest -> module and what opens a bundle in it; imported when chosen, since each
# needs its backend.
SESSIONS = {
    "portable": ("runtime.sessions.portable", "PortableSession"),
    "cpu": ("runtime.sessions.cpu", "open_cpu"),
}


def open_session(bundle: Bundle, trace: Path | None = None) -> Session:
    """Opens the session that the bundle was compiled for.

    Args:
        bundle: the bundle.
        trace: directory where closing the session leaves the times of all kernels.

    Raises:
        SessionError: no session for the target, or its backend is not installed.
    """
    target = bundle.manifest.target
    if target not in SESSIONS:
        raise SessionError(
            "no session for the bundle's target", got=target, allowed=", ".join(SESSIONS)
        )
    module_name, opener = SESSIONS[target]
    try:
        open_bundle: Callable[[Bundle, Path | None], Session] = getattr(
            import_module(module_name), opener
        )
    except ModuleNotFoundError as error:
        raise SessionError(
            f"target {target} needs the Python package {error.name}",
            next_step="install alpaca2-toolchain with the extra of that target, e.g. [cpu]",
        ) from error
    return open_bundle(bundle, trace)
