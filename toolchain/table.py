"""A table of text, and how Markdown writes one."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Table", "four_digits", "markdown_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells of text; the first column is the row's name, the others are mostly numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown_table(table: Table) -> Iterator[str]:
    """Names are aligned left, numbers right."""
    yield f"| {' | '.join(table.columns)} |"
    yield f"|{'|'.join(['---'] + ['--:'] * (len(table.columns) - 1))}|"
    for row in table.rows:
        yield f"| {' | '.join(row)} |"


def four_digits(value: float) -> str:
    """Four significant digits, without an exponent: 59.44, 0.3837, 1.000, 123500."""
    return f"{Decimal(f'{value:#.4g}'):f}"
