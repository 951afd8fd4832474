"""How far a batch is, on stderr: a bar on a terminal, else a line now and then."""

from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from runtime.batch.run import Tally
from runtime.console import note
from runtime.timing import now

__all__ = ["BatchProgress"]

BETWEEN_LINES = 10.0  # seconds


class BatchProgress:
    """Shows a tally as it grows. Use as a context manager around the work."""

    def __init__(self, tally: Tally) -> None:
        self._told_at = now()
        console = Console(stderr=True)
        self._is_terminal = console.is_terminal
        self._bar = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=tally.requests, completed=tally.resumed)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, tally: Tally) -> None:
        """See Watch."""
        told = f"{tally.refused} refused, {tally.tokens_per_s:.1f} tokens/s"
        if self._is_terminal:
            self._bar.update(self._task, completed=tally.done, description=told)
        elif now() - self._told_at > BETWEEN_LINES:
            self._told_at = now()
            note(f"{tally.done}/{tally.requests}: {told}")
