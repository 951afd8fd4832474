"""python -m tests.acceptance.matrix [PAGE]: every architecture on every way, beside transformers.

Prints a table, and writes it into a page where one is named. Ends with 1 where a cell is past what
is allowed.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.acceptance.beside_transformers import (
    NUM_TOKENS,
    Family,
    Rows,
    Said,
    export_family,
    greedy,
)
from tests.acceptance.page import write_tables
from tests.acceptance.rounding import Rounding, on_chip, on_cpu, rounded_model
from tests.acceptance.ways import Way, chip, compiled, eager, opened
from tests.export.families import FAMILIES
from toolchain.choices import Choices
from toolchain.table import Table, markdown_table

__all__ = ["LINES", "Line", "measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A way, what transformers computes with beside it, and how far apart the two may be."""

    way: Way
    measure: Callable[[Said, Rows], float]
    allowed: float
    rounding: Rounding | None = None

    @property
    def beside(self) -> str:
        return "its weights" if self.rounding is None else "its rounded weights"


def cpu(name: str, choices: Choices) -> Way:
    return Way(name=f"cpu {name}", spacings={}, open=compiled(choices))


def on(target: str, weights: str, via: str) -> Way:
    choices = Choices(target=target, weights=weights, via=via)
    return chip(f"{target} {weights} via {via}", choices, {})


def exact(way: Way) -> Line:
    """float32: the rest is the order of additions."""
    return Line(way=way, measure=Said.largest, allowed=1e-4)


def half(way: Way, rounding: Rounding | None = None) -> Line:
    """float16 rounds every result of every layer; measured relative to the logits."""
    return Line(way=way, measure=Said.relative, allowed=0.004, rounding=rounding)


def int8_inputs(way: Way, weights: str, allowed: float) -> Line:
    """What products take is rounded to int8 as well, which transformers does not do."""
    return Line(way=way, measure=Said.relative, allowed=allowed, rounding=on_cpu(weights))


LINES: Final = (
    exact(cpu("fp32", Choices(target="cpu", weights="fp32"))),
    int8_inputs(cpu("int8", Choices(target="cpu", weights="int8")), "int8", 0.06),
    int8_inputs(cpu("int4", Choices(target="cpu", weights="int4")), "int4", 0.06),
    int8_inputs(
        cpu("int8, int8 cache", Choices(target="cpu", weights="int8", kv_cache="int8")), "int8", 0.2
    ),
    half(Way(name="torch eager fp16", spacings={}, open=eager)),
    *(
        half(on(target, weights, via), rounding)
        for target, via in (("310p3", "onnx"), ("910b3", "onnx"), ("910b3", "air"))
        for weights, rounding in (("fp16", None), ("int8", on_chip))
    ),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """What was found of one architecture on one way."""

    found: float
    same: int
    largest_id: int


def measured(line: Line, family: Family, folder: Path) -> Cell:
    """Compiles, answers, and compares; what is compiled lies in a new folder."""
    with opened(line.way, family.exported, folder) as session:
        said = greedy(session)
    model = family.theirs if line.rounding is None else rounded_model(family.theirs, line.rounding)
    expected = said.theirs(model)
    return Cell(line.measure(said, expected), said.same(expected), max(said.tokens))


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        columns = {name: list(_column(name, Path(folder))) for name in FAMILIES}
    rows = tuple(
        _row(line, [cells[i] for cells in columns.values()]) for i, line in enumerate(LINES)
    )
    names = ("way", "transformers computes with", "allowed", *columns)
    lines = [*markdown_table(Table(title="matrix", columns=names, rows=rows)), ""]
    print("\n".join(lines))
    for page in arguments:
        write_tables(Path(page), "matrix", lines)
    cells = (
        (line, cell) for found in columns.values() for line, cell in zip(LINES, found, strict=True)
    )
    return int(any(not cell.found <= line.allowed for line, cell in cells))


def _column(name: str, folder: Path) -> Iterator[Cell]:
    place = Path(tempfile.mkdtemp(dir=folder))
    family = export_family(name, place)
    for i, line in enumerate(LINES):
        cell = measured(line, family, place / str(i))
        print(name, line.way.name, cell, file=sys.stderr, flush=True)
        yield cell


def _row(line: Line, cells: list[Cell]) -> tuple[str, ...]:
    found = [f"{cell.found:.1g}; {cell.same} of {NUM_TOKENS}" for cell in cells]
    return (line.way.name, line.beside, f"{line.allowed:g}", *found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
