"""Counts and intervals: pure functions on numbers of right answers."""

from collections.abc import Iterable, Mapping
from math import sqrt

from pydantic import NonNegativeInt

from runtime.record import Record

__all__ = ["Tally", "add", "by_group", "wilson"]

Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


class Tally(Record):
    """Right answers among all questions."""

    correct: NonNegativeInt
    total: NonNegativeInt

    @property
    def accuracy(self) -> float:
        """Share of right answers; there must be a question."""
        return self.correct / self.total


def add(tallies: Iterable[Tally]) -> Tally:
    """Every question counts the same, whichever subject it belongs to."""
    pairs = [(tally.correct, tally.total) for tally in tallies]
    return Tally(correct=sum(c for c, _ in pairs), total=sum(t for _, t in pairs))


def by_group(
    groups: Mapping[str, Iterable[str]], subjects: Mapping[str, Tally]
) -> dict[str, Tally]:
    """Tallies of the groups that have a question, in their order."""
    tallies = {
        group: add(subjects[subject] for subject in members if subject in subjects)
        for group, members in groups.items()
    }
    return {group: tally for group, tally in tallies.items() if tally.total}


def wilson(tally: Tally) -> tuple[float, float]:
    """The 95 % score interval of an accuracy.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22
    (1927), p. 209; recommended for small samples by Brown, Cai and DasGupta, Interval estimation
    for a binomial proportion, Statistical Science 16 (2001), p. 101.
    """
    n, p = tally.total, tally.accuracy
    center = p + Z95**2 / (2 * n)
    spread = Z95 * sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)
