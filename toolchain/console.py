"""Tables to stdout, progress to stderr."""

import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

__all__ = ["Progress", "human_bytes", "print_table"]


class Progress:
    """Tells what a long command does: one changing line on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = ""

    def __call__(self, text: str) -> None:
        """Shows a step; elsewhere than on a terminal, weights are one line together."""
        if self._terminal:
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
        elif not (text.startswith("weights") and self._last.startswith("weights")):
            print(text, file=sys.stderr, flush=True)
        self._last = text

    def done(self, text: str) -> None:
        """Ends with a line that stays."""
        start = "\r\x1b[2K" if self._terminal else ""
        print(f"{start}{text}", file=sys.stderr, flush=True)


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
