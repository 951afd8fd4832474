"""Sampling against a slow reference in plain Python: full sorts, one step after the other."""

import math
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.errors import ParameterError, SessionError
from runtime.sampling.params import SamplingParams
from runtime.sampling.sampler import Sampler, apply_penalties, make_rng, most_likely, top_logprobs

Logits = NDArray[np.float32]
VOCAB = 12

tied_or_not = st.integers(-3, 3).map(float) | st.floats(-20, 20, width=32) | st.just(-math.inf)
rows = st.lists(tied_or_not, min_size=VOCAB, max_size=VOCAB).map(
    lambda row: np.array([*row[:-1], max(row[-1], -9)], np.float32)  # never all -inf
)
token_ids = st.integers(0, VOCAB - 1)
# Irrational, so that never a boundary between tied ids is met exactly and rounding decides.
shares = st.integers(1, 140).map(lambda num: num / 100 / math.sqrt(2))
any_params = st.builds(
    SamplingParams,
    temperature=st.just(0.0) | st.floats(0.1, 3),
    top_k=st.integers(0, VOCAB + 2),
    top_p=st.just(1.0) | shares,
    min_p=st.sampled_from([0.0, 1.0]) | shares,
    repetition_penalty=st.just(1.0) | st.floats(0.5, 2),
    presence_penalty=st.just(0.0) | st.floats(-2, 2),
    frequency_penalty=st.just(0.0) | st.floats(-2, 2),
    logit_bias=st.dictionaries(token_ids, st.floats(-100, 100), max_size=3),
)


def reference_row(
    logits: Logits, params: SamplingParams, prompt_ids: list[int], output_ids: list[int]
) -> list[float]:
    row = [float(logit) + params.logit_bias.get(i, 0.0) for i, logit in enumerate(logits)]
    for i in set(prompt_ids + output_ids):
        penalty = params.repetition_penalty
        row[i] = row[i] / penalty if row[i] > 0 else row[i] * penalty
    for i in set(output_ids):
        row[i] -= params.frequency_penalty * output_ids.count(i)
        row[i] -= params.presence_penalty
    return row


def reference_weights(row: list[float], params: SamplingParams) -> dict[int, float]:
    """The ids that survive steps 4 to 7, most likely first, with their weights."""
    ranking = sorted(range(len(row)), key=lambda i: (-row[i], i))
    weights = {i: math.exp((row[i] - row[ranking[0]]) / params.temperature) for i in ranking}
    weights = {i: w for i, w in weights.items() if w >= params.min_p * weights[ranking[0]]}
    weights = dict(list(weights.items())[: params.top_k or None])
    before = accumulate(weights.values(), initial=0.0)  # the weight of all that are likelier
    mass = params.top_p * sum(weights.values())
    return {i: w for (i, w), b in zip(weights.items(), before, strict=False) if b < mass}


def reference_token(row: list[float], params: SamplingParams, u: float) -> int:
    if params.temperature == 0:
        return row.index(max(row))
    weights = reference_weights(row, params)
    mass = u * sum(weights.values())
    return next(i for i, r in zip(weights, accumulate(weights.values()), strict=True) if r >= mass)


def sample(
    row: Logits, params: SamplingParams, num: int = 1, seed: int = 0, prompt: tuple[int, ...] = ()
) -> list[int]:
    sampler = Sampler(params, prompt, row.size, make_rng(seed))
    return [sampler.sample(row) for _ in range(num)]


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *[("temperature", v, "number >= 0 and <= 100") for v in (-0.1, 101, math.nan, "1", True)],
        *[("top_k", value, "integer >= 0") for value in (-1, 1.0, True)],
        *[("top_p", value, "number > 0 and <= 1") for value in (0, 1.01, math.nan, True)],
        *[("min_p", value, "number >= 0 and <= 1") for value in (-0.01, 1.01, math.nan)],
        *[("repetition_penalty", v, "number >= 0.01 and <= 10") for v in (0, 10.1, math.nan)],
        *[("presence_penalty", v, "number >= -2 and <= 2") for v in (-2.1, 2.1, math.inf)],
        *[("frequency_penalty", v, "number >= -2 and <= 2") for v in (-2.1, 2.1, math.nan)],
        *[("logit_bias", {1: v}, "object of number >= -100 and <= 100") for v in (-101, 101, "1")],
        *[("logit_bias", v, "object of number") for v in ({"1": 1}, {True: 1}, {1: math.nan})],
        *[("seed", v, f"integer >= {-(2**63)} and <= {2**63 - 1}") for v in (2**63, 1.5, False)],
        *[("max_tokens", value, "integer >= 1") for value in (0, True)],
        *[("stop_token_ids", value, "array of integer") for value in ((1.5,), (True,), 7)],
        *[("ignore_eos", value, "boolean") for value in (1, "yes")],
        *[("logprobs", value, "integer >= 0 and <= 20") for value in (-1, 21, True)],
        ("top_q", 1, "temperature, top_k, top_p"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line_with_its_name_value_and_range(
    field: str, value: Any, allowed: str
) -> None:
    with pytest.raises(ParameterError) as refusal:
        SamplingParams.model_validate({field: value})
    name, got, told_allowed, _next_step = str(refusal.value).split("; ")
    assert name.startswith(field)
    assert got.removeprefix("got ") in repr(value)
    assert told_allowed.startswith(f"allowed: {allowed}")


def test_the_ends_of_the_ranges_and_whole_numbers_are_accepted() -> None:
    low = {"top_p": 1e-9, "min_p": 0, "repetition_penalty": 0.01, "seed": -(2**63), "logprobs": 0}
    high = {"temperature": 100, "top_p": 1, "min_p": 1, "repetition_penalty": 10, "logprobs": 20}
    for values in (low, high):
        assert SamplingParams.model_validate(values).model_dump(include=set(values)) == values


@pytest.mark.parametrize("bad", [-1, VOCAB])
def test_ids_outside_the_vocabulary_are_refused_by_name(bad: int) -> None:
    for field, ids in {"logit_bias": {bad: 1.0}, "stop_token_ids": (0, bad)}.items():
        params = SamplingParams.model_validate({field: ids})
        with pytest.raises(ParameterError, match=rf"^{field} .*got {bad}; .*0 to {VOCAB - 1}"):
            Sampler(params, [], VOCAB, make_rng(0))


@given(rows, any_params, st.lists(token_ids, max_size=5), st.integers(-(2**63), 2**63 - 1))
def test_every_combination_of_settings_equals_the_reference(
    logits: Logits, params: SamplingParams, prompt_ids: list[int], seed: int
) -> None:
    sampler, twin = Sampler(params, prompt_ids, VOCAB, make_rng(seed)), make_rng(seed)
    untouched, output_ids = logits.copy(), list[int]()
    for _ in range(4):
        row = reference_row(logits, params, prompt_ids, output_ids)
        output_ids.append(sampler.sample(logits))
        assert output_ids[-1] == reference_token(row, params, twin.random())
    np.testing.assert_array_equal(logits, untouched)


@pytest.mark.parametrize("scale", [0.1, 1.0, 6.0])  # flat: most of the vocabulary; 6: a few ids
@pytest.mark.parametrize("setting", [{}, {"top_p": 0.7}, {"min_p": 0.01}, {"top_k": 300}])
def test_a_large_vocabulary_with_many_ties_equals_the_reference(
    scale: float, setting: dict[str, float]
) -> None:
    logits = (scale * make_rng(1).normal(size=6000)).round(2).astype(np.float32)
    params = SamplingParams.model_validate({"temperature": 1, **setting})
    expected = [reference_token(logits.tolist(), params, u) for u in make_rng(5).random(20)]
    assert sample(logits, params, 20, seed=5) == expected


@given(rows, st.integers(1, VOCAB), shares, shares)
def test_only_ids_inside_top_k_top_p_and_min_p_are_drawn(
    logits: Logits, top_k: int, top_p: float, min_p: float
) -> None:
    params = SamplingParams(temperature=1, top_k=top_k, top_p=top_p, min_p=min_p)
    drawn = set(sample(logits, params, 20))
    for field in ("top_k", "top_p", "min_p"):
        alone = SamplingParams.model_validate({"temperature": 1, field: getattr(params, field)})
        assert drawn <= set(reference_weights(logits.tolist(), alone))


def test_top_p_stops_where_its_share_is_met_exactly() -> None:
    half = SamplingParams(temperature=1, top_p=0.5)
    assert set(sample(np.zeros(4, np.float32), half, 50)) == {0, 1}


@given(rows, st.integers(0, VOCAB + 2))
def test_the_ranking_puts_the_lower_id_first_on_ties(logits: Logits, num: int) -> None:
    full = sorted(range(VOCAB), key=lambda i: (-logits[i], i))
    assert most_likely(logits, num).tolist() == full[:num]


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.sampled_from([1, 3, 1000]))
def test_the_ranking_of_a_long_row_is_that_of_sorting_it(seed: int, num: int, levels: int) -> None:
    """With many ties and ids that are ruled out, and where what is asked for is few or many."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, levels, int(rng.integers(500, 2000))).astype(np.float32)
    logits[rng.random(logits.size) < rng.choice([0, 0.5, 0.99])] = -np.inf
    full = sorted(range(logits.size), key=lambda i: (-logits[i], i))
    assert most_likely(logits, num).tolist() == full[:num]


@given(rows)
def test_temperature_0_and_top_k_1_take_the_first_argmax(logits: Logits) -> None:
    greedy = [int(np.argmax(logits))]
    assert sample(logits, SamplingParams()) == greedy
    assert sample(logits, SamplingParams(temperature=2, top_k=1)) == greedy
    assert logits[sample(logits, SamplingParams(temperature=5e-324))] == logits.max()  # overflows


def test_frequencies_follow_the_softmax() -> None:
    logits, num = np.array([2, 1, 0, 0, -1, -math.inf], np.float32), 20_000
    counts = np.bincount(sample(logits, SamplingParams(temperature=0.7), num), minlength=6)
    expected = num * np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    assert counts[5] == 0
    assert ((counts - expected)[:5] ** 2 / expected[:5]).sum() < 23.5  # chi2(4): 1 in 10,000


def test_penalties_match_a_sum_by_hand() -> None:
    logits = np.array([0.25, -3, 3, -3, 0, -math.inf], np.float32)
    seen, counts = np.array([1, 1, 0, 0, 1, 1], np.bool_), np.array([0, 2, 0, 0, 1, 1])
    params = SamplingParams(repetition_penalty=1.5, frequency_penalty=0.5, presence_penalty=0.25)
    expected = [0.25 / 1.5, -3 * 1.5 - 2 * 0.5 - 0.25, 3, -3, -0.5 - 0.25, -math.inf]
    assert apply_penalties(logits, seen, counts, params).tolist() == expected


def test_the_prompt_counts_for_repetition_but_not_for_presence() -> None:
    logits = np.array([1.0, 0.9], np.float32)
    assert sample(logits, SamplingParams(repetition_penalty=2), prompt=(0,)) == [1]
    assert sample(logits, SamplingParams(presence_penalty=1), 3, prompt=(0,)) == [0, 1, 0]


def test_the_same_seed_gives_the_same_ids_and_another_seed_others() -> None:
    logits, params = np.zeros(1000, np.float32), SamplingParams(temperature=1)
    assert sample(logits, params, 9, seed=-7) == sample(logits, params, 9, seed=-7)
    assert sample(logits, params, 9, seed=-7) != sample(logits, params, 9, seed=7)
    assert make_rng(None).random() != make_rng(None).random()


def test_a_bias_moves_the_choice_but_not_when_every_id_has_the_same() -> None:
    logits = np.array([1, 3, 2], np.float32)
    assert sample(logits, SamplingParams(logit_bias={2: 1.5})) == [2]
    assert sample(logits, SamplingParams(logit_bias=dict.fromkeys(range(3), -100))) == [1]


def test_the_widest_logits_with_the_strongest_penalties_do_not_overflow() -> None:
    logits = np.array([3e38, -3e38, 0], np.float32)
    for penalty in (0.01, 10):
        params = SamplingParams(temperature=0.001, top_p=0.5, repetition_penalty=penalty)
        assert sample(logits, params, 3, prompt=(0, 1, 2)) == [0, 0, 0]


@pytest.mark.parametrize("values", [[0, math.nan], [0, math.inf], [-math.inf, -math.inf]])
def test_unusable_logits_are_refused(values: list[float]) -> None:
    logits = np.array(values, np.float32)
    with pytest.raises(SessionError, match=f"logits .*got {values[1]}"):
        sample(logits, SamplingParams())
    with pytest.raises(SessionError, match="logits"):
        top_logprobs(logits, 0, 1)


@given(rows, token_ids, st.integers(0, VOCAB))
def test_logprobs_are_the_log_softmax_of_the_raw_logits_most_likely_first(
    logits: Logits, token_id: int, n: int
) -> None:
    values = logits.tolist()
    log_total = math.log(math.fsum(math.exp(value) for value in values))
    logprob, top = top_logprobs(logits, token_id, n)
    ranking = sorted(range(VOCAB), key=lambda i: (-values[i], i))[:n]
    assert logprob == pytest.approx(values[token_id] - log_total)
    assert [i for i, _ in top] == ranking
    assert [value for _, value in top] == pytest.approx([values[i] - log_total for i in ranking])
