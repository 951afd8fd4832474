"""Claims about drafts: what is proposed, how many, and what calls are taken to cost."""

import pytest

from runtime.engine.speculation import LENGTHS, CallCosts, Drafter, expected_tokens

FREE = CallCosts(seconds={1: 1.0, 32: 1.0})  # a call of many rows costs no more than one of one
DEAR = CallCosts(seconds={1: 1.0, 2: 2.0, 32: 32.0})  # nothing is saved by a call of many rows


def test_the_first_call_of_a_size_sets_things_up_and_does_not_count() -> None:
    costs = CallCosts()
    costs.saw(1, 1.0)
    costs.saw(4, 50.0)
    assert costs.seconds == {}
    costs.saw(1, 1.0)
    costs.saw(4, 2.0)
    assert costs.relative(4) == 2.0


def test_less_is_believed_at_once_and_more_little_by_little() -> None:
    costs = CallCosts()
    for seconds in (1.0, 1.0, 2.0):
        costs.saw(1, seconds)
    assert costs.seconds[1] == pytest.approx(1.2)
    costs.saw(1, 0.5)
    assert costs.seconds[1] == 0.5


def test_a_size_that_was_not_tried_lies_on_the_line_between_those_that_were() -> None:
    costs = CallCosts(seconds={1: 2.0, 3: 4.0, 7: 8.0})
    assert costs.relative(3) == 2.0
    assert costs.relative(5) == 3.0


def test_where_shapes_are_static_a_call_costs_what_its_graph_does() -> None:
    costs = CallCosts(sizes=[4, 8])
    for _ in range(2):
        costs.saw(1, 1.0)
        costs.saw(3, 1.5)
    assert [costs.relative(rows) for rows in (1, 2, 3, 4)] == [1.0, 1.5, 1.5, 1.5]
    assert costs.relative(5) == costs.relative(8) > 1.5


def test_no_call_is_taken_for_cheaper_than_one_of_one_row() -> None:
    assert CallCosts(seconds={1: 1.0, 4: 0.5}).relative(4) == 1.0


def test_what_followed_the_last_tokens_before_is_proposed() -> None:
    drafter = Drafter([5, 6, 7, 8, 9, 5, 6])
    assert drafter.propose(3, FREE) == [7, 8, 9]
    assert drafter.propose(2, FREE) == [7, 8]
    assert drafter.propose(0, FREE) == []


def test_the_longest_match_and_then_the_latest_is_followed() -> None:
    assert Drafter([1, 2, 3, 9, 2, 3, 8, 1, 2, 3]).propose(1, FREE) == [9]  # 1 2 3, not 2 3
    assert Drafter([2, 3, 9, 2, 3, 8, 2, 3]).propose(1, FREE) == [8]


def test_a_text_that_goes_round_in_a_circle_is_gone_on_with() -> None:
    assert Drafter([4, 5] * 4).propose(5, FREE) == [4, 5, 4, 5, 4]


def test_tokens_that_were_never_there_have_no_draft() -> None:
    assert Drafter([1, 2, 3, 4]).propose(5, FREE) == []


def test_nothing_is_drafted_where_it_does_not_pay() -> None:
    assert Drafter([5, 6, 7, 5, 6]).propose(3, DEAR) == []


def test_more_is_drafted_the_more_often_the_lookup_was_right() -> None:
    """What the lookup would have said is known without trying it."""
    costs = CallCosts(seconds={1: 1.0, 2: 1.2, 32: 7.0})
    drafter = Drafter([1, 2, 3, 4] * 2)
    proposed = [len(drafter.propose(31, costs))]
    for token_id in [1, 2, 3, 4] * 6:
        drafter.extend(token_id)
        proposed.append(len(drafter.propose(31, costs)))
    assert proposed == sorted(proposed)
    assert proposed[0] < proposed[-1]
    assert set(proposed) <= {0, *LENGTHS}
    for token_id in [1, 2, 9, 1, 2, 8, 1, 2, 7, 1, 2]:  # now it is wrong, again and again
        drafter.extend(token_id)
    assert len(drafter.propose(31, costs)) < proposed[-1]


def test_the_tokens_of_a_call_are_one_and_the_drafts_that_hold() -> None:
    assert expected_tokens(0.5, 2) == 1 + 0.5 + 0.25
    assert expected_tokens(1.0, 7) == 8
