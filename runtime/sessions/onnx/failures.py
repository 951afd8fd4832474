"""What ONNX Runtime's errors mean: a limit of the system is no fault of the bundle."""

import errno
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from runtime.bundle.manifest import Graph
from runtime.errors import SessionError
from runtime.sessions.onnx.quiet_ort import ort

__all__ = ["named_failures", "session_failure"]

# Words of its messages -> errno. It gives the number, the system's words, or a C++ exception.
WORDS = (
    (r"SystemError : (\d+)|errno[: ]+(\d+)", None),
    (r"[Tt]oo many open files", errno.EMFILE),
    (r"bad[ _]alloc(ation)?|[Cc]annot allocate memory|[Oo]ut of memory", errno.ENOMEM),
    (r"[Pp]ermission denied", errno.EACCES),
    (r"[Rr]esource temporarily unavailable|thread constructor failed", errno.EAGAIN),
    (r"No space left on device", errno.ENOSPC),
)


@contextmanager
def named_failures(graph: Graph, doing: Literal["load", "run"]) -> Iterator[None]:
    """Names what ONNX Runtime raises inside the block: a dozen unrelated types.

    Raises:
        SessionError: the graph cannot be loaded or run.
    """
    try:
        yield
    except Exception as error:
        raise session_failure(graph, doing, error) from error


def session_failure(graph: Graph, doing: str, error: Exception) -> SessionError:
    """The error of a graph that could not be loaded or run."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    number = errno.ENOMEM if isinstance(error, MemoryError) else _errno(said)
    what = f"ONNX Runtime {ort.__version__} cannot {doing} {graph.path}"
    if number is None:
        return SessionError(
            what, got=said, next_step="compile the bundle again with this version installed"
        )
    return SessionError(
        f"{what}: {os.strerror(number).lower()}", got=_limit(number), next_step=REMEDIES[number]
    )


def _errno(said: str) -> int | None:
    for pattern, number in WORDS:
        found = re.search(pattern, said)
        if found:
            number = number or int(next(filter(None, found.groups())))
            return number if number in REMEDIES else None
    return None


def _limit(number: int) -> str | None:
    """The limit that was met, where the system tells one."""
    if number not in LIMITS:
        return None
    kind, unit = LIMITS[number]
    limit = resource.getrlimit(kind)[0]
    return None if limit == resource.RLIM_INFINITY else f"a limit of {limit} {unit}"


LIMITS = {
    errno.EMFILE: (resource.RLIMIT_NOFILE, "open files"),
    errno.ENOMEM: (resource.RLIMIT_AS, "bytes of addresses"),
    errno.EAGAIN: (resource.RLIMIT_NPROC, "processes and threads"),
}
REMEDIES = {
    errno.EMFILE: "raise it with ulimit -n",
    errno.ENFILE: "close other programs: the system has too many files open",
    errno.ENOMEM: "give the process more memory, or compile with --weights int4",
    errno.EACCES: "make the files of the bundle readable for this user",
    errno.EAGAIN: "raise ulimit -u, or give --threads 1",
    errno.ENOSPC: "make room on the disk of TMPDIR",
}
