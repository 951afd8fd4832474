"""Tables to stdout, progress to stderr."""

import sys
from collections.abc import Sequence
from typing import Self

import rich.progress
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from runtime.bundle.writer import Report
from runtime.console import note

__all__ = ["Progress", "human_bytes", "print_table"]


class Progress(Report):
    """Shows a long command's steps on stderr: a bar of bytes on a terminal, plain lines elsewhere.

    Use as a context manager around the work.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = rich.progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, text: str) -> None:
        """See Report."""
        if self._console.is_terminal:
            self._bar.update(self._task, description=text)
        else:
            note(text)

    def expect(self, num_bytes: int) -> None:
        """See Report."""
        self._bar.update(self._task, total=num_bytes, completed=0)

    def advance(self, num_bytes: int) -> None:
        """See Report."""
        self._bar.advance(self._task, num_bytes)

    def done(self, text: str) -> None:
        """Ends with a line that stays."""
        note(text)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; numbers are right-aligned, the first column is the row's name."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def human_bytes(size: int) -> str:
    """Decimal units, as disks and memory bandwidths are sold."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
