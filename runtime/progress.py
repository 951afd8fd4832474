"""How a long operation tells what it does; who shows it is for the caller."""

from typing import Protocol

__all__ = ["SILENT", "Progress", "Silent"]


class Progress(Protocol):
    """Receives progress of a long operation."""

    def step(self, text: str) -> None:
        """A step begins."""

    def expect(self, num_bytes: int) -> None:
        """The step will write this many bytes."""

    def advance(self, num_bytes: int) -> None:
        """This many more bytes are written; called from several threads."""


class Silent:
    """Receives progress of a long operation; the default discards it."""

    def step(self, text: str) -> None:
        """See Progress."""

    def expect(self, num_bytes: int) -> None:
        """See Progress."""

    def advance(self, num_bytes: int) -> None:
        """See Progress."""


SILENT = Silent()
