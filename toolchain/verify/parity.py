"""Comparison of two sequences of logits: pure functions on arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiles import Limits

__all__ = [
    "Agreement",
    "AgreementSum",
    "columns_error",
    "layer_error",
    "log_softmax",
    "match_length",
]

Rows = NDArray[np.float32]
TOP = 10


def log_softmax(logits: Rows) -> NDArray[np.float64]:
    """Log-probabilities over the last axis."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def layer_error(before: Rows, expected: Rows, seen: Rows) -> float:
    """How wrong a layer is, relative to what it adds; a root mean square over the rows.

    Where it adds less than a tenth of what is there already, relative to that tenth: the first
    token of a large model has numbers so great that their rounding is more than what a layer adds.
    Rows for which the reference has no number, since a layer before gave none, do not count.

    Args:
        before: residual stream that goes in, (n, E).
        expected: what the reference makes of it.
        seen: what came out.
    """
    sizes = (np.linalg.norm(expected - before, axis=-1), np.linalg.norm(before, axis=-1) / 10)
    error = np.linalg.norm(seen - expected, axis=-1) / np.maximum(*sizes)
    known = error[np.isfinite(expected).all(-1)]
    return float(np.sqrt(np.mean(np.square(known)))) if known.size else 0.0


def columns_error(reference: Rows, got: Rows) -> Rows:
    """|got - reference| / |reference| of each column (n, V), float32 (V,).

    A column of almost nothing, such as that of an id that only fills up the vocabulary, is held to
    a tenth of the typical one.
    """
    sizes = np.linalg.norm(reference, axis=0)
    error: Rows = np.linalg.norm(got - reference, axis=0) / np.maximum(sizes, np.median(sizes) / 10)
    return error


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
    log_perplexity_error: standard error of log(perplexity / reference_perplexity), by the rows.
    """

    rows: int
    argmax: float
    top10: float
    kl: float
    max_abs: float
    perplexity: float
    reference_perplexity: float
    log_perplexity_error: float

    @property
    def perplexity_change(self) -> float:
        """Relative to the reference; above 0 is worse."""
        return self.perplexity / self.reference_perplexity - 1

    @property
    def least_worsening(self) -> float:
        """The change less what the choice of rows may have made of it: two standard errors."""
        return (1 + self.perplexity_change) * float(np.exp(-2 * self.log_perplexity_error)) - 1

    def _flips(self) -> float:
        """Rows with another first choice; not a number if there is none."""
        return round((1 - self.argmax) * self.rows, 6)

    def failures(self, limits: Limits) -> list[str]:
        """The measures past their limits, in words; not a number is past every limit.

        A perplexity that is better than the reference's is no fault.
        """
        # One near-tie may fall the other way in any sample, however small.
        allowed_flips = max(1, (1 - limits.argmax) * self.rows)
        worse = self.perplexity_change
        checks = (
            ("argmax", self.argmax, self._flips() <= allowed_flips, limits.argmax),
            ("top10", self.top10, self.top10 >= limits.top10, limits.top10),
            ("kl", self.kl, self.kl <= limits.kl, limits.kl),
            (
                "perplexity worse by",
                worse,
                self.least_worsening <= limits.perplexity,
                limits.perplexity,
            ),
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
        # argmax, top10, kl, the two log-likelihoods, and the squares of their difference
        self._sums = np.zeros(6)
        self._max_abs = 0.0

    def add(self, reference: Rows, got: Rows, next_ids: list[int]) -> None:
        """Compares rows (n, V); next_ids are the n tokens that really follow."""
        expected, seen = log_softmax(reference), log_softmax(got)
        rows = np.arange(len(next_ids))
        top = [np.argpartition(x, -TOP, axis=-1)[:, -TOP:] for x in (reference, got)]
        shared = [len(np.intersect1d(a, b)) / TOP for a, b in zip(*top, strict=True)]
        likely, found = expected[rows, next_ids], seen[rows, next_ids]
        self._rows += len(rows)
        self._sums += (
            (reference.argmax(-1) == got.argmax(-1)).sum(),
            sum(shared),
            (np.exp(expected) * (expected - seen)).sum(),
            likely.sum(),
            found.sum(),
            np.square(likely - found).sum(),
        )
        self._max_abs = float(np.maximum(self._max_abs, np.abs(reference - got).max()))

    def result(self) -> Agreement:
        """The means over all rows added."""
        argmax, top10, kl, expected, seen, squares = (self._sums / self._rows).tolist()
        variance = np.maximum(0.0, squares - (expected - seen) ** 2)  # keeps a NaN
        return Agreement(
            rows=self._rows,
            argmax=argmax,
            top10=top10,
            kl=kl,
            max_abs=self._max_abs,
            perplexity=float(np.exp(-seen)),
            reference_perplexity=float(np.exp(-expected)),
            log_perplexity_error=float(np.sqrt(variance / self._rows)),
        )
