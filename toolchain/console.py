"""Tables to stdout, progress to stderr."""

import re
import sys
from collections.abc import Sequence
from typing import Self

import rich.progress
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from runtime.console import note
from runtime.printable import printable
from runtime.timing import now

__all__ = ["ConsoleProgress", "FractionProgress", "human_bytes", "print_table"]

PLAIN_WIDTH = 120  # of a file or a pipe
LEAST_REST = 40  # columns for what stands beside the names
NUMBER = re.compile(r"[-+]?\d[\d,.e+-]*( |%|$)")


class ConsoleProgress:
    """Shows a long command's steps on stderr: a line that moves on a terminal, else plain lines.

    While bytes are counted the line has a bar of them and the time that is left; when they are
    done, or none are counted, it has the time since the step began. Use as a context manager
    around the work.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = rich.progress.Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            _Counted(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()),
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

    def step(self, text: str) -> None:
        """See Progress."""
        if self._console.is_terminal:
            self._bar.update(self._task, description=printable(text), step_began=now())
        else:
            note(text)

    def expect(self, num_bytes: int) -> None:
        """See Progress."""
        self._bar.reset(self._task, total=num_bytes)

    def advance(self, num_bytes: int) -> None:
        """See Progress."""
        self._bar.advance(self._task, num_bytes)

    def done(self, text: str) -> None:
        """Ends with a line that stays."""
        note(text)


class FractionProgress:
    """Shows how much of a known amount of work is done: a bar on a terminal, else plain lines.

    Use as a context manager around the work.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = rich.progress.Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, text: str, fraction: float) -> None:
        """A step begins; so much of all is done."""
        if self._console.is_terminal:
            self._bar.update(self._task, description=printable(text), completed=fraction)
        else:
            note(text)


class _Counted(ProgressColumn):
    """Columns about bytes while they are counted, else the seconds of the step."""

    max_refresh = 0.5  # seconds

    def __init__(self, *columns: ProgressColumn) -> None:
        super().__init__()
        self._columns = columns

    def render(self, task: Task) -> RenderableType:
        """One cell for all."""
        if task.total is None or task.finished:
            return Text(f"{now() - task.fields.get('step_began', now()):.0f} s")
        return Columns([column(task) for column in self._columns], padding=(0, 1))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table: text left, numbers right; names in the first column are never split."""
    name_width = max(cell_len(printable(cell)) for cell in [columns[0], *(row[0] for row in rows)])
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.width = max(console.width, name_width + LEAST_REST)
    console.print(_text(title, "bold"), soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        cells = [row[i] for row in rows]
        table.add_column(
            _text(column),
            justify="right" if i > 0 and _is_numeric(cells) else "left",
            min_width=name_width if i == 0 else None,
            no_wrap=i == 0,  # else rich makes the others as wide as if the first could shrink
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(_text, row))
    console.print(table)


def _text(text: str, style: str = "") -> Text:
    """As it is: not as markup, and with control characters written out."""
    return Text(printable(text), style)


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether every cell that says something is a number, perhaps with its unit."""
    said = [cell for cell in cells if cell not in ("", "-")]
    return bool(said) and all(NUMBER.match(cell) for cell in said)


def human_bytes(size: int) -> str:
    """Decimal units, as disks and memory bandwidths are sold."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
