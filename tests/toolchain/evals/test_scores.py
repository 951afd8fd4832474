"""Claims about toolchain.evals.scores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.evals.ceval import CEVAL
from toolchain.evals.mmlu import MMLU
from toolchain.evals.scores import Tally, by_group, wilson

# Right answers and questions that the manual's table of C-Eval implies, by category.
MANUAL = {
    "computer_network": Tally(correct=165, total=430),
    "college_economics": Tally(correct=132, total=275),
    "law": Tally(correct=116, total=257),
    "physician": Tally(correct=155, total=384),
}


def test_the_manuals_counts_give_the_manuals_figures_to_the_last_digit() -> None:
    groups = by_group(CEVAL.groups, MANUAL)
    assert [str(tally.accuracy) for tally in groups.values()] == [
        "0.38372093023255816",
        "0.48",
        "0.45136186770428016",
        "0.4036458333333333",
        "0.42199108469539376",
    ]
    assert list(groups) == ["STEM", "Social Science", "Humanities", "Other", "Avg"]


def test_hard_divides_by_the_hard_questions() -> None:
    """The SDK's later version divided the right hard answers by all questions."""
    subjects = {"college_physics": Tally(correct=3, total=4), "law": Tally(correct=0, total=96)}
    groups = by_group(CEVAL.groups, subjects)
    assert groups["Avg(Hard)"] == Tally(correct=3, total=4)
    assert groups["Avg"] == Tally(correct=3, total=100)


def test_the_tables_have_all_subjects_once() -> None:
    assert len(CEVAL.titles) == sum(map(len, CEVAL.subjects.values())) == 52
    assert len(MMLU.titles) == sum(map(len, MMLU.subjects.values())) == 57
    assert len(CEVAL.hard) == 8
    assert set(CEVAL.hard) <= set(CEVAL.subjects["STEM"])


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    # Brown, Cai, DasGupta (2001) give the formula; values by R's prop.test(correct = FALSE).
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilsons_interval_has_its_published_values(
    correct: int, total: int, low: float, high: float
) -> None:
    found = wilson(Tally(correct=correct, total=total))
    assert found == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000), st.integers(0, 2000))
def test_an_interval_holds_its_accuracy(total: int, correct: int) -> None:
    tally = Tally(correct=min(correct, total), total=total)
    low, high = wilson(tally)
    assert 0 <= low <= tally.accuracy + 1e-12
    assert tally.accuracy - 1e-12 <= high <= 1
