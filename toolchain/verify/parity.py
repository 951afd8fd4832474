"""Comparison of two sequences of logits: pure functions on arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiles import Limits

__all__ = ["Agreement", "AgreementSum", "log_softmax", "match_length", "relative_error"]

Rows = NDArray[np.float32]
TOP = 10


def log_softmax(logits: Rows) -> NDArray[np.float64]:
    """Log-probabilities over the last axis."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def relative_error(reference: Rows, got: Rows) -> float:
    """|got - reference| / |reference| over the whole array."""
    return float(np.linalg.norm(got - reference) / np.linalg.norm(reference))


def match_length(reference: Rows, token_ids: list[int]) -> int:
    """How many leading tokens are what the reference would have chosen greedily.

    Args:
        reference: (n, V), row i the logits that precede token i.
        token_ids: n tokens.
    """
    wrong = np.flatnonzero(reference.argmax(-1) != np.array(token_ids))
    return int(wrong[0]) if wrong.size else len(token_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How close rows of logits are to the reference.

    argmax, top10: shares of rows with the same first choice, of shared ids among the top ten.
    kl: mean Kullback-Leibler divergence of got from the reference, in nats.
    perplexity, reference_perplexity: exp of the mean negative log-probability of the next ids.
    """

    rows: int
    argmax: float
    top10: float
    kl: float
    max_abs: float
    perplexity: float
    reference_perplexity: float

    @property
    def perplexity_change(self) -> float:
        """Relative to the reference; above 0 is worse."""
        return self.perplexity / self.reference_perplexity - 1

    def _flips(self) -> float:
        """Rows with another first choice; not a number if there is none."""
        return round((1 - self.argmax) * self.rows, 6)

    def failures(self, limits: Limits) -> list[str]:
        """The measures past their limits, in words; not a number is past every limit."""
        change = abs(self.perplexity_change)
        # One near-tie may fall the other way in any sample, however small.
        allowed_flips = max(1, (1 - limits.argmax) * self.rows)
        checks = (
            ("argmax", self.argmax, self._flips() <= allowed_flips, limits.argmax),
            ("top10", self.top10, self.top10 >= limits.top10, limits.top10),
            ("kl", self.kl, self.kl <= limits.kl, limits.kl),
            ("perplexity change", change, change <= limits.perplexity, limits.perplexity),
        )
        return [
            f"{name} {value:.4g} (limit {limit:g})"
            for name, value, within, limit in checks
            if not within
        ]


class AgreementSum:
    """Adds up the comparison of many chunks of rows, so that no more than one is in memory."""

    def __init__(self) -> None:
        self._rows = 0
        self._sums = np.zeros(5)  # argmax, top10, kl, and the two log-likelihoods
        self._max_abs = 0.0

    def add(self, reference: Rows, got: Rows, next_ids: list[int]) -> None:
        """Compares rows (n, V); next_ids are the n tokens that really follow."""
        expected, seen = log_softmax(reference), log_softmax(got)
        rows = np.arange(len(next_ids))
        top = [np.argpartition(x, -TOP, axis=-1)[:, -TOP:] for x in (reference, got)]
        shared = [len(np.intersect1d(a, b)) / TOP for a, b in zip(*top, strict=True)]
        self._rows += len(rows)
        self._sums += (
            (reference.argmax(-1) == got.argmax(-1)).sum(),
            sum(shared),
            (np.exp(expected) * (expected - seen)).sum(),
            expected[rows, next_ids].sum(),
            seen[rows, next_ids].sum(),
        )
        self._max_abs = float(np.maximum(self._max_abs, np.abs(reference - got).max()))

    def result(self) -> Agreement:
        """The means over all rows added."""
        argmax, top10, kl, expected, seen = (self._sums / self._rows).tolist()
        return Agreement(
            rows=self._rows,
            argmax=argmax,
            top10=top10,
            kl=kl,
            max_abs=self._max_abs,
            perplexity=float(np.exp(-seen)),
            reference_perplexity=float(np.exp(-expected)),
        )
