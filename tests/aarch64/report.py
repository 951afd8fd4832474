"""What was found in the box, as the tables of docs/benchmarks.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.aarch64.suites import LEFT_OUT, Outcome
from tests.aarch64.tokens import Compared
from toolchain.table import Table, markdown_table

__all__ = ["Found", "report"]

TOLD = 2.0  # MB; smaller packages are told together


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All of it.

    title: the date and the versions.
    sizes: MB, package -> of its files.
    asked: the table of what it took from a pack to an answer.
    seconds: step -> of the whole step.
    """

    title: str
    compared: Sequence[Compared]
    outcome: Outcome
    sizes: dict[str, float]
    asked: Sequence[str]
    seconds: dict[str, float]


def report(found: Found) -> Iterator[str]:
    """Lines of Markdown."""
    yield f"{found.title}\n"
    rows = [_tokens(each) for each in found.compared]
    columns = (
        "bundle",
        "by",
        "answers",
        "tokens equal",
        "logits differ by up to",
        "answers that part",
    )
    yield from _table(columns, rows)
    yield f"\n{_tests(found.outcome)}\n"
    skipped = [(reason, f"{number}") for reason, number in found.outcome.skipped.items()]
    left_out = [(f"`{name.replace('::', ': ')}`: {why}", "all") for name, why in LEFT_OUT.items()]
    yield from _table(("left out", "tests"), [*left_out, *skipped])
    yield ""
    large = {name: size for name, size in found.sizes.items() if size >= TOLD}
    total = sum(found.sizes.values())
    rest = f"{len(found.sizes) - len(large)} smaller ones"
    sizes = [*large.items(), (rest, total - sum(large.values())), ("together", total)]
    yield from _table(("package", "MB"), [(name, f"{size:.1f}") for name, size in sizes])
    yield ""
    yield from (*found.asked, "")
    seconds = [(step, f"{value:.0f}") for step, value in found.seconds.items()]
    yield from _table(("step", "seconds"), seconds)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    return markdown_table(Table(title="", columns=columns, rows=tuple(rows)))


def _tokens(each: Compared) -> tuple[str, ...]:
    difference = "" if each.difference is None else f"{each.difference:.2g}"
    equal = f"{each.same:,} of {each.tokens:,}"
    gaps = ", ".join(f"{gap:.2g}" for gap in each.gaps)
    parted = f"{len(each.gaps)}, at tokens that are {gaps} apart" if gaps else ""
    return (each.bundle, each.by, f"{each.answers}", equal, difference, parted)


def _tests(outcome: Outcome) -> str:
    skipped = sum(outcome.skipped.values())
    return f"{outcome.passed} tests passed, {len(outcome.failed)} failed, {skipped} were skipped."
