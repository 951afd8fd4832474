"""What two results have in common, and the ratio of each figure: 1 is equal, more is better."""

from collections.abc import Iterator
from dataclasses import dataclass

from toolchain.bench.llama_bench import SpeedTest
from toolchain.compare.side import CATEGORIES, CaseTimes, Conditions, Side
from toolchain.errors import CompareError

__all__ = ["Accuracy", "Comparison", "Performance", "Speed", "compare"]

NO_TEST = (
    "no test in common, so no ratio: it needs the same prompt length or the same context, "
    "which llama-bench takes as -p and -d"
)


LONGEST_VALUE = 60  # characters of a condition that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Shares of right answers; ratio: ours / theirs, none where theirs is zero."""

    category: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float | None:
        """Part of their accuracy that ours is."""
        return self.ours / self.theirs if self.theirs else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """Times of one case; the ratios are their time / ours: our relative speed."""

    ours: CaseTimes
    theirs: CaseTimes

    @property
    def first_token_ratio(self) -> float:
        """Of the first token."""
        return self.theirs.first_token_ms / self.ours.first_token_ms

    @property
    def per_token_ratio(self) -> float:
        """Of each further token."""
        return self.theirs.per_token_ms / self.ours.per_token_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """A line of llama-bench's table; ratio: our tokens/s / theirs, where both ran it."""

    test: SpeedTest
    ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that can be set side by side."""

    ours: Side
    theirs: Side
    accuracy: tuple[Accuracy, ...]
    performance: tuple[Performance, ...]
    speeds: tuple[Speed, ...]

    @property
    def names(self) -> tuple[str, str]:
        """Of both sides, told apart."""
        ours, theirs = self.ours.name, self.theirs.name
        return (ours, theirs) if ours != theirs else (f"{ours} (ours)", f"{theirs} (theirs)")

    @property
    def differences(self) -> tuple[str, ...]:
        """What was not the same on both sides besides model and machine, a line each."""
        lines: list[str] = []
        if self.accuracy:
            lines += _differences(self.names, self.ours.exam, self.theirs.exam)
        if self.performance or self.speeds:
            lines += _differences(self.names, self.ours.clocks, self.theirs.clocks)
        return tuple(lines)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know besides the figures."""
        unmatched = self.speeds and all(speed.ratio is None for speed in self.speeds)
        own = dict.fromkeys((*self.ours.notes, *self.theirs.notes))
        return (*own, *([NO_TEST] if unmatched else []))


def compare(ours: Side, theirs: Side) -> Comparison:
    """Pairs what both have.

    Raises:
        CompareError: different benchmarks, or nothing in common.
    """
    both = ours.accuracy.keys() & theirs.accuracy.keys()
    if both and ours.benchmark and theirs.benchmark and ours.benchmark != theirs.benchmark:
        raise CompareError(
            "the accuracies are of different benchmarks",
            got=f"{ours.benchmark} and {theirs.benchmark}",
            allowed="the same one twice",
        )
    comparison = Comparison(
        ours=ours,
        theirs=theirs,
        accuracy=tuple(
            Accuracy(category=key, ours=ours.accuracy[key], theirs=theirs.accuracy[key])
            for key in CATEGORIES
            if key in both
        ),
        performance=tuple(
            Performance(ours=own, theirs=other)
            for own in ours.times
            for other in theirs.times
            if own.matches(other)
        ),
        speeds=tuple(_speeds(ours, theirs)),
    )
    if not (comparison.accuracy or comparison.performance or comparison.speeds):
        raise CompareError(
            "the two results have nothing in common",
            got=f"{ours.kinds} of {ours.name}; {theirs.kinds} of {theirs.name}",
            allowed="the same batch size and lengths, or both accuracy",
            next_step="bench the same --case and --batch-size on both sides",
        )
    return comparison


def _differences(names: tuple[str, str], own: Conditions, other: Conditions) -> Iterator[str]:
    """What both state and is not equal, then what only one states."""
    pairs = [(key, own[key], other[key]) for key in own if key in other]
    unequal = [f"{key} ({_brief(a)}; {_brief(b)})" for key, a, b in pairs if a != b]
    if unequal:
        yield f"not the same: {', '.join(unequal)}"
    for name, stated, there in ((names[0], own, other), (names[1], other, own)):
        missing = [key for key in there if key not in stated]
        if missing:
            yield f"not stated by {name}: {', '.join(missing)}"


def _brief(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 3]}..."


def _speeds(ours: Side, theirs: Side) -> Iterator[Speed]:
    """Both sides' tests, theirs first, where llama-bench made one of them."""
    if not (ours.from_llama_bench or theirs.from_llama_bench) or not (ours.tests and theirs.tests):
        return
    rates = {_key(test): test.tokens_per_s for test in theirs.tests}
    yield from (Speed(test=test) for test in theirs.tests)
    for test in ours.tests:
        rate = rates.get(_key(test))
        yield Speed(test=test, ratio=test.tokens_per_s / rate if rate else None)


def _key(test: SpeedTest) -> tuple[int, int, int, bool]:
    """What makes rates comparable: of new tokens the context that they follow, not how many."""
    return test.batch_size, test.prompt_tokens, test.depth_tokens, test.new_tokens > 0
