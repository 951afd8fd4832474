"""A session in a process of its own, so that several devices of a box run at the same time.

Engine and scheduler stand on it as on any other session.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import Bundle, read_manifest
from runtime.child_processes import Child
from runtime.sessions import Chunk, Session, SessionOptions, check_devices, open_session
from runtime.sessions.base import Logits

__all__ = ["SessionElsewhere", "open_sessions"]


def open_sessions(
    bundle: Bundle, devices: Sequence[int], threads: int | None = None
) -> list[Session]:
    """A session for each device: in this process for one, else each in its own.

    Args:
        bundle: whose files were checked.
        devices: one or more.
        threads: see SessionOptions.

    Raises:
        BundleError, SessionError: one of them cannot be opened.
    """
    check_devices(bundle.manifest.backend, devices)
    options = [SessionOptions(device=device, threads=threads) for device in devices]
    if len(options) == 1:
        return [open_session(bundle, options[0])]
    with ExitStack() as opened:
        sessions = [SessionElsewhere(bundle, each) for each in options]
        for session in sessions:
            opened.callback(session.close)
        for session in sessions:
            session.wait_until_open()
        opened.pop_all()
    return [*sessions]


class SessionElsewhere:
    """See Session. Its process begins at once; sessions that are made together load side by side.

    Args:
        bundle: whose files were checked.
        options: of the session.
    """

    def __init__(self, bundle: Bundle, options: SessionOptions) -> None:
        self.manifest = bundle.manifest
        self.static_shapes = True  # until it is known
        self.hidden: dict[str, NDArray[np.float32]] = {}
        name = f"the process of device {options.device}"
        self._child = Child(name, _serve, bundle.path, options)

    def wait_until_open(self) -> None:
        """Waits until the bundle is open there.

        Raises:
            BundleError, SessionError: it cannot be.
        """
        self.static_shapes = self._child.receive()

    def prepare(self, graph: Graph) -> None:
        """See Session."""
        self._call("prepare", graph.spec.name)

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """See Session."""
        logits: Logits = self._call("run", graph.spec.name, list(chunks))
        return logits

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """See Session."""
        self._call("copy_rows", source, target, num_rows)

    def close(self) -> None:
        """See Session; ends the process."""
        self._child.close()

    def _call(self, *order: object) -> Any:
        self._child.send(order)
        return self._child.receive()


def _serve(connection: Connection, path: Path, options: SessionOptions) -> None:
    """The process: carries orders out, one after the other."""
    try:
        bundle = Bundle(path=path, manifest=read_manifest(path))
        session = open_session(bundle, options)
    except Exception as error:
        connection.send(error)
        return
    graphs = {graph.spec.name: graph for graph in bundle.manifest.graphs}
    calls: dict[str, Callable[..., object]] = {
        "prepare": lambda name: session.prepare(graphs[name]),
        "run": lambda name, chunks: session.run(graphs[name], chunks),
        "copy_rows": session.copy_rows,
    }
    with closing(session):
        connection.send(session.static_shapes)
        try:
            while (order := connection.recv()) is not None:
                name, *arguments = order
                connection.send(_tried(calls[name], arguments))
        except (EOFError, OSError):
            pass  # nobody gives orders any more


def _tried(call: Callable[..., object], arguments: Sequence[object]) -> object:
    """What a call gives, or its error."""
    try:
        return call(*arguments)
    except Exception as error:
        return error
