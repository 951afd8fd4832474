"""The measures of verify, recomputed by other means."""

import numpy as np
import pytest

from profiles import Limits
from toolchain.verify.parity import AgreementSum, columns_error, layer_error, match_length

ANY: dict[str, float] = {"argmax": 0, "top10": 0, "kl": 99, "perplexity": 99, "hidden": 99}
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
    assert len(agreement.failures(LIMITS)) == 3  # six rows say nothing of the perplexity


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


def test_a_better_perplexity_is_no_fault_and_a_worse_one_is() -> None:
    """The same next ids, which the one makes likelier and the other unlikelier."""
    reference, following = rows(3, (400, 50)), [1] * 400
    for change, fault in ((0.5, False), (-0.5, True)):
        got = reference.copy()
        got[:, 1] += change
        total = AgreementSum()
        total.add(reference, got, following)
        words = " ".join(total.result().failures(Limits(**{**ANY, "perplexity": 0.05})))
        assert ("perplexity worse by" in words) == fault


def test_a_worsening_that_the_choice_of_rows_explains_is_no_fault() -> None:
    reference, got = rows(4, (8, 50)), rows(4, (8, 50))
    got[::2, 0] += 3.0
    got[1::2, 0] -= 4.0  # on balance worse, but by as much either way
    few, many = AgreementSum(), AgreementSum()
    few.add(reference, got, [0] * 8)
    for _ in range(400):
        many.add(reference, got, [0] * 8)
    assert few.result().perplexity_change == pytest.approx(many.result().perplexity_change)
    assert few.result().perplexity_change > 0.05
    limits = Limits(**{**ANY, "perplexity": 0.05})
    assert few.result().failures(limits) == []
    assert len(many.result().failures(limits)) == 1


def test_the_error_of_the_mean_is_that_of_a_plain_recount() -> None:
    reference, got, following = rows(1), rows(2), [3, 1, 4, 1, 5, 9]
    total = AgreementSum()
    total.add(reference, got, following)
    surprise = []
    for logits in (reference.astype(float), got.astype(float)):
        likely = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        surprise.append(-np.log(likely[range(6), following]))
    expected = np.std(surprise[0] - surprise[1]) / np.sqrt(6)
    assert total.result().log_perplexity_error == pytest.approx(expected, rel=1e-4)


def test_a_layers_error_is_relative_to_what_it_adds() -> None:
    before, added = rows(0), rows(1)
    seen = before + added * np.float32(1.5)
    assert layer_error(before, before + added, seen) == pytest.approx(0.5, rel=1e-5)
    # What a layer adds to a huge stream may be less than the stream's rounding.
    huge = before * np.float32(1e4)
    assert layer_error(huge, huge + added, huge) < 1e-2


def test_a_row_that_the_reference_has_no_number_for_is_not_held_against_a_layer() -> None:
    before, expected = rows(0), rows(1)
    seen = expected.copy()
    expected[2:] = np.nan
    seen[2:] = np.nan
    assert layer_error(before, expected, seen) == 0
    seen[0] = np.nan
    assert np.isnan(layer_error(before, expected, seen))
    assert layer_error(before, np.full_like(before, np.nan), seen) == 0


def test_one_wrong_column_stands_out_and_an_empty_one_does_not() -> None:
    reference = rows(0, (40, 50))
    reference[:, 7] = 0  # an id that only fills up the vocabulary
    got = reference + rows(1, (40, 50)) * np.float32(1e-3)
    got[:, 13] = reference[:, 14]
    errors = columns_error(reference, got)
    assert int(errors.argmax()) == 13
    assert errors[13] > 0.5
    assert np.delete(errors, 13).max() < 0.05
