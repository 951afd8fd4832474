"""Claims about sampling with a constraint, against a fake one that is a list of sets."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.errors import ParameterError, SessionError
from runtime.sampling.params import SamplingParams
from runtime.sampling.sampler import Sampler, make_rng

VOCAB = 12


class Script:
    """Allows one set of ids after the other, and ends after the last."""

    def __init__(self, *sets: set[int]) -> None:
        self._sets, self.accepted = sets, list[int]()

    @property
    def ended(self) -> bool:
        return len(self.accepted) == len(self._sets)

    def allowed(self) -> NDArray[np.bool_]:
        mask = np.zeros(VOCAB, np.bool_)
        mask[list(self._sets[len(self.accepted)])] = True
        return mask

    def accept(self, token_id: int) -> None:
        self.accepted.append(token_id)

    def valid_prefix(self, token_ids: Sequence[int]) -> int:
        raise NotImplementedError

    def rollback(self, num_tokens: int) -> None:
        raise NotImplementedError


def logits_of(seed: int) -> NDArray[np.float32]:
    return make_rng(seed).normal(size=VOCAB).astype(np.float32)


def sampler_of(script: Script, params: SamplingParams, seed: int = 0) -> Sampler:
    return Sampler(params, [1, 2], VOCAB, make_rng(seed), script)


SETTINGS: tuple[dict[str, object], ...] = (
    {},
    {"temperature": 1.0},
    {"temperature": 1.5, "top_k": 3},
    {"temperature": 1.0, "top_p": 0.6},
    {"temperature": 0.7, "min_p": 0.2},
    {"temperature": 1.0, "repetition_penalty": 1.5, "presence_penalty": 0.5},
    {"temperature": 1.0, "frequency_penalty": 1.0, "logit_bias": {3: 2.0, 7: 50.0}},
)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_it_is_as_if_all_other_logits_were_minus_infinity(setting: dict[str, object]) -> None:
    """So the shares of those that are left are the model's own, made to add up to 1."""
    params = SamplingParams.model_validate(setting)
    for seed in range(40):
        rng = make_rng(seed)
        sets = [set(rng.choice(VOCAB, size=rng.integers(1, VOCAB), replace=False)) for _ in "abcd"]
        bound = sampler_of(Script(*sets), params, seed)
        free = Sampler(params, [1, 2], VOCAB, make_rng(seed))
        for at, each in enumerate(sets):
            row = logits_of(seed + at)
            masked = np.full_like(row, -np.inf)
            masked[list(each)] = row[list(each)]
            assert bound.sample(row) == free.sample(masked)


def test_frequencies_follow_the_softmax_of_what_is_allowed() -> None:
    row, num, allowed = logits_of(5), 20_000, {1, 4, 5, 9}
    sampler = sampler_of(Script(*[allowed] * num), SamplingParams(temperature=0.8))
    counts = np.bincount([sampler.sample(row) for _ in range(num)], minlength=VOCAB)
    ids = sorted(allowed)
    weights = np.exp(row[ids] / 0.8)
    expected = num * weights / weights.sum()
    assert counts.sum() == counts[ids].sum()
    assert ((counts[ids] - expected) ** 2 / expected).sum() < 21.1  # chi2(3): 1 in 10,000


def test_each_id_is_accepted_once_and_the_end_is_seen() -> None:
    script = Script({3}, {4, 5}, {6})
    sampler = sampler_of(script, SamplingParams())
    ends = []
    for seed in range(3):
        sampler.sample(logits_of(seed))
        ends.append(sampler.ended)
    assert script.accepted in ([3, 4, 6], [3, 5, 6])
    assert ends == [False, False, True]
    assert not Sampler(SamplingParams(), [], VOCAB, make_rng(0)).ended


def test_no_bias_brings_back_what_is_not_allowed() -> None:
    params = SamplingParams(logit_bias={0: 100.0})
    assert sampler_of(Script({3}), params).sample(logits_of(0)) == 3


def test_a_model_that_rules_out_all_that_is_allowed_is_a_dead_end() -> None:
    row = logits_of(0)
    row[[3, 4]] = -math.inf
    assert sampler_of(Script({3, 5}), SamplingParams()).sample(row) == 5
    with pytest.raises(SessionError, match="got -inf for 2 of them") as refusal:
        sampler_of(Script({3, 4}), SamplingParams(temperature=1.0)).sample(row)
    assert refusal.value.code == "constraint_dead_end"


@pytest.mark.parametrize("value", [3, "a", {"kind": "regex"}, {"kind": "xml", "value": "a"}])
def test_a_constraint_that_is_none_is_refused_by_name(value: object) -> None:
    with pytest.raises(ParameterError, match="allowed: a ConstraintSpec") as refusal:
        SamplingParams.model_validate({"constraint": value})
    assert refusal.value.param == "constraint"
