"""Drafts by prompt lookup: what followed the last time that the last few tokens were there.

A call of several rows checks them all at once. Each row's token is sampled as it would be without
drafts, with the same random numbers, and the first one that differs from its draft ends the check;
so drafts change when tokens are computed, never which (the point-mass case of arXiv:2211.17192).
Source of the lookup: github.com/apoorvumang/prompt-lookup-decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["CallCosts", "Drafter"]

NGRAMS = (4, 3, 2)  # tokens that must be the same before a draft, longest first
LENGTHS = (1, 2, 3, 5, 7, 11, 15, 23, 31)  # drafts that one call may check
MEMORY = 0.95  # of a trial, per trial that follows: about the last twenty count
FIRST_GUESS = 0.25  # cost of one more row in calls of one row, until such a call was timed
SMOOTHING = 0.2  # share of a new time in the mean


@dataclass(slots=True)
class CallCosts:
    """Seconds of a call by its rows, from the calls themselves.

    sizes: rows of the graphs that check drafts, where a call costs as much as its graph however
        few rows are used; empty where a call costs what it has rows.
    """

    sizes: Sequence[int] = ()
    seconds: dict[int, float] = field(default_factory=dict)
    _begun: set[int] = field(default_factory=set)

    def saw(self, num_rows: int, seconds: float) -> None:
        """Notes a call. The first of a size also sets things up, and does not count.

        Less is believed at once, more little by little: other programs only make a call longer.
        """
        size = self._size(num_rows)
        known = self.seconds.get(size, seconds)
        if size in self._begun:
            self.seconds[size] = min(seconds, known + SMOOTHING * (seconds - known))
        self._begun.add(size)

    def relative(self, num_rows: int) -> float:
        """Cost of such a call in calls of one row; between known ones along a straight line."""
        size = self._size(num_rows)
        costs = {1: 1.0}
        if one := self.seconds.get(1):
            costs |= {rows: max(1.0, seconds / one) for rows, seconds in self.seconds.items()}
        if size in costs:
            return costs[size]
        below = max(rows for rows in costs if rows < size)
        above = min((rows for rows in costs if rows > size), default=None)
        slope = FIRST_GUESS
        if above is not None:
            slope = (costs[above] - costs[below]) / (above - below)
        return costs[below] + slope * (size - below)

    def _size(self, num_rows: int) -> int:
        fitting = (size for size in self.sizes if size >= num_rows)
        return num_rows if num_rows == 1 else min(fitting, default=num_rows)


class Drafter:
    """Proposes the next tokens of one sequence, as many as pay.

    Args:
        token_ids: the prompt.
    """

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._token_ids: list[int] = []
        # The place after the last n-gram of these ids, the end of the sequence left out.
        self._places: dict[tuple[int, ...], int] = {}
        self._accepted = self._rejected = 0.0
        self._expected: int | None = None
        for token_id in token_ids:
            self._add(token_id)

    def _add(self, token_id: int) -> None:
        ids, end = self._token_ids, len(self._token_ids)
        for n in NGRAMS:
            if n <= end:
                self._places[tuple(ids[end - n :])] = end
        ids.append(token_id)

    def extend(self, token_id: int) -> None:
        """Adds a token, and learns from it whether the lookup would have been right."""
        if self._expected is not None:
            self._accepted *= MEMORY
            self._rejected *= MEMORY
            if token_id == self._expected:
                self._accepted += 1
            else:
                self._rejected += 1
        self._add(token_id)
        found = self._lookup()
        self._expected = None if found is None else self._token_ids[found]

    @property
    def acceptance(self) -> float:
        """Estimated probability that a draft is what the model says; Laplace's rule."""
        return (self._accepted + 1) / (self._accepted + self._rejected + 2)

    def propose(self, most: int, costs: CallCosts) -> list[int]:
        """The drafts after the last token that make the most tokens per second; often none.

        Args:
            most: drafts that could still be used.
            costs: of calls by their rows.
        """
        found = self._lookup()
        if found is None:
            return []
        best, best_rate = 0, 1.0
        for length in LENGTHS:
            if length > most:
                break
            rate = expected_tokens(self.acceptance, length) / costs.relative(length + 1)
            if rate > best_rate:
                best, best_rate = length, rate
        repeated = self._token_ids[found:]  # what a text that goes round in a circle goes on with
        return [repeated[i % len(repeated)] for i in range(best)]

    def _lookup(self) -> int | None:
        """Where the last tokens were followed by something before."""
        ids = self._token_ids
        for n in NGRAMS:
            if n < len(ids):
                place = self._places.get(tuple(ids[-n:]))
                if place is not None:
                    return place
        return None


def expected_tokens(acceptance: float, num_drafts: int) -> float:
    """Mean tokens of a call with drafts that are each right with this probability.

    1 + a + a^2 + ... + a^k, of which the one is the token that the model adds itself.
    """
    return sum(acceptance**i for i in range(num_drafts + 1))
