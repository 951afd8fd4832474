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

__all__ = ["ConsoleProgress", "FractionProgress", "about", "human_bytes", "print_table"]

PLAIN_WIDTH = 120  # of a file or a pipe
LEAST_REST = 40  # columns for what stands beside long names
BETWEEN = 2  # columns of blank between two cells, and 1 at the left edge
NUMBER = re.compile(r"[-+]?\d[\d,.e+-]*( (±|to) [\d.]+)?( ?[%A-Za-z/]+)?")
NUMBERED = re.compile(
    r"(?:\w+ )?([1-9]\d*)/([1-9]\d*)\b"
)  # of a step, as in "graph 2/4: decode_b1"
WORD = re.compile(r"[!-~]+")  # Chinese may be parted anywhere


class ConsoleProgress:
    """Shows a long command's steps on stderr: a line that moves on a terminal, else plain lines.

    While bytes are counted the line has a bar of them and the time that is left; when they are
    done, or none are counted, it has the time since the step began. From the second of numbered
    steps on, it says about how long the rest takes. Use as a context manager around the work.
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
        self._task = self._bar.add_task("starting", total=None, step_began=now())
        self._first_began = now()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, text: str) -> None:
        """See Progress."""
        text += self._rest(text)
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

    def _rest(self, text: str) -> str:
        """About how long a numbered step and those after it take, if like those before it."""
        numbered = NUMBERED.match(text)
        if numbered is None:
            return ""
        number, last = map(int, numbered.groups())
        if number == 1:
            self._first_began = now()
            return ""
        each = (now() - self._first_began) / (number - 1)
        return f", about {about(each * (last - number + 1))} left"

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
        self._task = self._bar.add_task("starting", total=1.0)

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
            return Text(f"{now() - task.fields['step_began']:.0f} s so far")
        return Columns([column(task) for column in self._columns], padding=(0, 1))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table: text left, numbers right.

    What may be copied is never split: names in the first column, and words. A table that needs more
    columns for them than the terminal has is as wide as it needs.
    """
    cells = [list(map(printable, column)) for column in zip(columns, *rows, strict=True)]
    room = Console().width if sys.stdout.isatty() else PLAIN_WIDTH
    blanks = BETWEEN * len(columns) + 1
    widths = _widths(cells, room - blanks)
    # Without a height, rich takes 80 columns of a terminal that is dumb.
    console = Console(width=max(room, sum(widths) + blanks), height=len(rows))
    console.print(_text(title, "bold"), soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(
            _text(column),
            justify="right" if i > 0 and _is_numeric(cells[i][1:]) else "left",
            width=widths[i],
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
    return bool(said) and all(NUMBER.fullmatch(cell) for cell in said)


def _widths(cells: Sequence[Sequence[str]], room: int) -> list[int]:
    """Of the columns: the widest are folded until all fit, or have but one word in a line."""
    widths = [max(map(cell_len, column)) for column in cells]
    least = [widths[0], *(max(map(_longest_word, column)) for column in cells[1:])]
    room = max(room, least[0] + LEAST_REST)
    while sum(widths) > room and widths != least:
        _, widest = max((widths[i], i) for i in range(len(cells)) if widths[i] > least[i])
        widths[widest] -= 1
    return widths


def _longest_word(text: str) -> int:
    return max(map(len, WORD.findall(text)), default=1)


def about(seconds: float) -> str:
    """A time as a person would say it."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def human_bytes(size: int) -> str:
    """Decimal units, as disks and memory bandwidths are sold."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
