"""Ctrl-C while an answer is made: it ends at the next token, not in the middle of a step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupt", "interruptible"]


class Interrupt:
    """What Ctrl-C has done so far.

    Attributes:
        wanted: it was pressed, and what is under way should end at its next step.
        steps_are_short: whether that is soon. Where it is not, and the second time, it raises
            KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.steps_are_short = False

    def press(self, _signum: int, _frame: FrameType | None) -> None:
        """Handles the signal."""
        if self.wanted or not self.steps_are_short:
            raise KeyboardInterrupt
        self.wanted = True


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Lets Ctrl-C do within the block what Interrupt says.

    A program that was started with the signal ignored, as a shell does in the background, goes on.
    """
    interrupt = Interrupt()
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt.press)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
