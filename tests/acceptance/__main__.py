"""python -m tests.acceptance [PAGE]: greedy tokens of every way beside the CPU's in float32.

Prints tables, and writes them into a page where one is named. Ends with 1 where a token differs
that the numbers of that way can tell from the right one.
"""

import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from export.miniature import train_tokenizer
from runtime.sessions import open_session
from tests.acceptance.agreement import Agreement, agreement, greedy_tokens
from tests.acceptance.checkpoints import Asked, grouped, mini
from tests.acceptance.page import write_tables
from tests.acceptance.ways import FLOAT, LEVELS, WAYS, Way, opened
from tests.ascend.memoriser import make_memoriser
from tests.paths import SHARED
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.table import Table, markdown_table

COLUMNS = ("way", "beside", "answers equal", "tokens equal", "largest gap", "allowed")


@dataclass(frozen=True, slots=True)
class Result:
    """What one way said beside one reference."""

    asked: Asked
    way: Way
    beside: str
    found: Agreement

    @property
    def allowed(self) -> float:
        return self.way.spacings[self.beside]


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        results = list(_results(Path(folder)))
    lines = list(_lines(results))
    print("\n".join(lines))
    for page in arguments:
        write_tables(Path(page), "tokens", lines)
    return int(any(result.found.gap > result.allowed for result in results))


def _lines(results: list[Result]) -> Iterator[str]:
    for title, of_model in groupby(results, key=lambda result: result.asked.title):
        rows = tuple(_row(result) for result in of_model)
        yield f"**{title}**\n"
        yield from markdown_table(Table(title=title, columns=COLUMNS, rows=rows))
        yield ""


def _results(folder: Path) -> Iterator[Result]:
    tokenizer = folder / "tokenizer.model"
    tokenizer.write_bytes(train_tokenizer())
    make_memoriser(folder / "memoriser", tokenizer)
    mini_checkpoint = SHARED / "alpaca2-mini"
    for asked in (grouped(folder / "memoriser", folder), mini(mini_checkpoint, folder)):
        yield from _of_model(asked, Path(tempfile.mkdtemp(dir=folder)))


def _of_model(asked: Asked, place: Path) -> Iterator[Result]:
    float32 = Choices(target="cpu", weights="fp32")
    references = {
        FLOAT: compile_bundle(asked.bundle, place / "model", float32),
        LEVELS: compile_bundle(asked.levels, place / "levels", float32),
    }
    expected = {
        beside: greedy_tokens(open_session(bundle), asked.prompts, asked.num_tokens)
        for beside, bundle in references.items()
    }
    for way in WAYS:
        with opened(way, asked.bundle, place / way.name.replace(" ", "-")) as session:
            said = greedy_tokens(session, asked.prompts, asked.num_tokens)
        for beside in way.spacings:
            with closing(open_session(references[beside])) as reference:
                found = agreement(reference, asked.prompts, expected[beside], said)
            print(asked.name, way.name, beside, found, file=sys.stderr, flush=True)
            yield Result(asked, way, beside, found)


def _row(result: Result) -> tuple[str, ...]:
    found, total = result.found, result.found.answers * result.asked.num_tokens
    return (
        result.way.name,
        result.beside,
        f"{found.same} of {found.answers}",
        f"{found.tokens:,} of {total:,}",
        f"{found.gap:.2f}",
        "any" if math.isinf(result.allowed) else f"{result.allowed:g}",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
