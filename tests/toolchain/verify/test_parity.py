"""The measures of verify, recomputed by other means."""

import numpy as np
import pytest

from profiles import Limits
from toolchain.verify.parity import AgreementSum, match_length, relative_error

LIMITS = Limits(argmax=0.9, top10=0.9, kl=0.01, perplexity=0.01, hidden=0.1)


def rows(seed: int, shape: tuple[int, int] = (6, 50)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 3


def test_equal_logits_agree_in_everything() -> None:
    total = AgreementSum()
    total.add(rows(0), rows(0), [1, 2, 3, 4, 5, 6])
    agreement = total.result()
    assert (agreement.argmax, agreement.top10, agreement.kl, agreement.max_abs) == (1, 1, 0, 0)
    assert agreement.perplexity == agreement.reference_perplexity
    assert agreement.failures(LIMITS) == []


def test_the_measures_equal_a_plain_recount() -> None:
    reference, got, following = rows(1), rows(2), [3, 1, 4, 1, 5, 9]
    total = AgreementSum()
    total.add(reference[:2], got[:2], following[:2])
    total.add(reference[2:], got[2:], following[2:])
    agreement = total.result()
    kl, same, shared, surprise = [], [], [], []
    for expected, seen, token in zip(reference, got, following, strict=True):
        p = np.exp(expected) / np.exp(expected).sum()
        q = np.exp(seen) / np.exp(seen).sum()
        kl.append((p * np.log(p / q)).sum())
        same.append(expected.argmax() == seen.argmax())
        top = [set(np.argsort(-x)[:10].tolist()) for x in (expected, seen)]
        shared.append(len(top[0] & top[1]) / 10)
        surprise.append(-np.log(q[token]))
    assert agreement.rows == 6
    assert agreement.kl == pytest.approx(np.mean(kl), rel=1e-5)
    assert agreement.argmax == pytest.approx(np.mean(same))
    assert agreement.top10 == pytest.approx(np.mean(shared))
    assert agreement.perplexity == pytest.approx(np.exp(np.mean(surprise)), rel=1e-5)
    assert agreement.max_abs == pytest.approx(np.abs(reference - got).max())
    assert len(agreement.failures(LIMITS)) == 4


def test_logits_that_are_not_numbers_fail() -> None:
    total = AgreementSum()
    total.add(rows(0), np.full_like(rows(0), np.nan), [0] * 6)
    failures = " ".join(total.result().failures(LIMITS))
    assert "kl" in failures
    assert "perplexity" in failures


def test_the_greedy_match_ends_at_the_first_other_token() -> None:
    reference = np.eye(5, dtype=np.float32)
    assert match_length(reference, [0, 1, 2, 3, 4]) == 5
    assert match_length(reference, [0, 1, 9, 3, 4]) == 2
    assert match_length(reference, [1, 1, 2, 3, 4]) == 0


def test_the_relative_error_does_not_depend_on_scale() -> None:
    assert relative_error(rows(0), rows(0) * np.float32(1.5)) == pytest.approx(0.5)
    assert relative_error(100 * rows(0), 150 * rows(0)) == pytest.approx(0.5)
