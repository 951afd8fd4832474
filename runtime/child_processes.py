"""A process of our own at the other end of a pipe: it works on one device, beside others."""

import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from typing import Any

from runtime.errors import DeviceLostError

__all__ = ["Child"]

SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
PATIENCE = 10.0  # seconds in which it must end when it is asked to


class Child:
    """A process that runs a function; it begins at once, and hears no signals.

    Args:
        name: what it is called where it fails.
        target: a function of a module. It is given its end of the pipe, whose end (EOFError) or
            None tells it to return.
        arguments: what else it is given.
    """

    def __init__(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        self._name = name
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        # A terminal and systemd tell all processes; this one hears it, and ends the child.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        theirs.close()

    def send(self, item: object) -> None:
        """Hands something over.

        Raises:
            DeviceLostError: the process has ended.
        """
        try:
            self._connection.send(item)
        except OSError as error:
            raise self._gone() from error

    def receive(self) -> Any:
        """Waits for what comes next.

        Raises:
            DeviceLostError: the process has ended.
            Exception: it sent this one.
        """
        try:
            item = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._gone() from error
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """Ends the process, whatever it does."""
        with suppress(OSError):  # it has ended
            self._connection.send(None)
        self._process.join(PATIENCE)
        self._process.kill()
        self._process.join()

    def _gone(self) -> DeviceLostError:
        self._process.join(PATIENCE)
        return DeviceLostError(
            f"{self._name} has ended",
            got=f"exit code {self._process.exitcode}",
            next_step="look at the device, and start again",
        )
