"""Chooses the next token id: takes a row of logits, settings and an explicit rng; gives an id.

Pure numpy; knows nothing of engines or text. The steps come in vLLM's order (vllm.v1.sample):
0. A constraint leaves the ids that it allows; all others count as -inf.
1. logit_bias is added (OpenAI).
2. repetition_penalty divides positive logits and multiplies the others, for prompt and output
   ids (CTRL, arXiv:1909.05858, as in transformers).
3. frequency_penalty * count and presence_penalty are subtracted, for output ids only (OpenAI).
4. temperature divides; 0 takes the most likely id and skips the rest.
5. min_p keeps p >= min_p * max(p) (arXiv:2407.01082).
6. top_k keeps the k most likely (arXiv:1805.04833).
7. top_p keeps the fewest most likely whose share of what is left reaches it (arXiv:1904.09751).
8. One uniform number is looked up in the cumulative sum.
The ranking is by (-logit, id) everywhere, so ties fall the same way each time.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from runtime.errors import SessionError
from runtime.sampling.constraint import Constraint
from runtime.sampling.params import SamplingParams, check_vocab

__all__ = ["Sampler", "make_rng", "top_logprobs"]

Row: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
Ids: TypeAlias = NDArray[np.intp]

GROUP = 64  # ids of which the highest logit is looked at first
HEADS = (256, 4096)  # ids to sort before sorting all: 5 ms for 55,296, and rarely needed


def make_rng(seed: int | None) -> Generator:
    """PCG64 from any int64, or from the operating system for None."""
    return np.random.default_rng(None if seed is None else seed % 2**64)  # numpy refuses seed < 0


class Sampler:
    """Chooses the ids of one sequence and remembers them, for the penalties and the constraint.

    Args:
        params: the settings.
        prompt_ids: what the sequence begins with.
        vocab_size: length of a row of logits.
        rng: where chance comes from.
        constraint: that of params, compiled; at the start of the answer.

    Raises:
        ParameterError: a token id in the parameters is not in the vocabulary.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        vocab_size: int,
        rng: Generator,
        constraint: Constraint | None = None,
    ) -> None:
        assert params.constraint is None or constraint is not None, "a constraint is compiled first"
        check_vocab(params, vocab_size)
        self._params, self._rng, self._constraint = params, rng, constraint
        self._bias_ids = np.array(list(params.logit_bias), np.intp)
        self._bias = np.array(list(params.logit_bias.values()), np.float64)
        if params.has_penalties:
            self._counts = np.zeros(vocab_size, np.int64)  # of output ids
            self._seen = np.zeros(vocab_size, np.bool_)  # in prompt or output
            self._seen[np.array(prompt_ids, np.intp)] = True

    def sample(self, logits: NDArray[np.float32]) -> int:
        """The next id for a row of logits, (vocab,), which is not changed.

        Raises:
            SessionError: NaN or +inf somewhere, -inf everywhere, or no id that the constraint
                allows.
        """
        check_logits(logits)
        token_id = self._choose(self._adjust(logits))
        if self._params.has_penalties:
            self._seen[token_id] = True
            self._counts[token_id] += 1
        return token_id

    @property
    def ended(self) -> bool:
        """Whether the constraint has ended the answer with the last id."""
        return self._constraint is not None and self._constraint.ended

    def possible(self, token_ids: list[int]) -> list[int]:
        """Drafts as far as the constraint lets them follow one another."""
        if self._constraint is None:
            return token_ids
        return token_ids[: self._constraint.valid_prefix(token_ids)]

    def _choose(self, logits: Row) -> int:
        """Step 0, and 4 to 8 on what it leaves: a short row is chosen from faster."""
        if self._constraint is None:
            return choose(logits, self._params, self._rng)
        ids = np.flatnonzero(self._constraint.allowed())
        row = logits[ids]
        check_any_left(row)
        token_id = int(ids[choose(row, self._params, self._rng)])
        self._constraint.accept(token_id)
        return token_id

    def _adjust(self, logits: Row) -> Row:
        """Steps 1 to 3 on a copy; the row itself where none applies."""
        if self._bias_ids.size:
            logits = logits.astype(np.float64)
            logits[self._bias_ids] += self._bias
        if self._params.has_penalties:
            logits = apply_penalties(logits, self._seen, self._counts, self._params)
        return logits


def check_logits(logits: Row) -> None:
    """Refuses a row without a most likely id; its max tells all three ways in one pass."""
    highest = logits.max()
    if not np.isfinite(highest):
        raise SessionError(
            "the logits are not usable",
            got="-inf everywhere" if highest == -np.inf else f"{highest} among them",
            allowed="finite numbers, and -inf for some",
            next_step="verify the bundle, or compare with another backend",
            code="unusable_logits",
        )


def check_any_left(row: Row) -> None:
    """Refuses a row of allowed ids none of which the model can choose."""
    if row.max() == -np.inf:
        raise SessionError(
            "the model rules out every token that the constraint allows",
            got=f"-inf for {row.size} of them",
            next_step="loosen the constraint, or verify the bundle",
            code="constraint_dead_end",
        )


def apply_penalties(
    logits: Row, seen: NDArray[np.bool_], counts: NDArray[np.int64], params: SamplingParams
) -> Row:
    """Steps 2 and 3 on a copy; ids with a count must also be seen."""
    row = logits.astype(np.float64)
    ids = np.flatnonzero(seen)
    num_outputs, penalty, values = counts[ids], params.repetition_penalty, row[ids]
    values = np.where(values > 0, values / penalty, values * penalty)
    values -= params.frequency_penalty * num_outputs
    row[ids] = values - params.presence_penalty * (num_outputs > 0)
    return row


def choose(logits: Row, params: SamplingParams, rng: Generator) -> int:
    """Steps 4 to 8."""
    if params.temperature == 0:
        return int(logits.argmax())
    ids = np.arange(logits.size)
    if params.top_k:  # before min_p, for speed: both cut the same ranking, so they commute
        ids = most_likely(logits, params.top_k)
    row = logits[ids]
    weights = weigh(row, params.temperature)
    weights *= weights >= params.min_p  # the largest is 1
    if params.top_p < 1:
        nucleus = keep_top_p(row, weights, params.top_p)
        ids, row, weights = ids[nucleus], row[nucleus], weights[nucleus]
    # The last of the fewest whose share reaches u is where the cumulative sum reaches u.
    return int(ids[keep_top_p(row, weights, rng.random())[-1]])


def most_likely(logits: Row, num: int) -> Ids:
    """The num most likely ids (all, if there are fewer), sorted by (-logit, id)."""
    num_groups = logits.size // GROUP
    if 0 < num <= num_groups:
        # In num groups the highest is at least this high, so what is lower cannot be among them.
        highest = logits[: num_groups * GROUP].reshape(GROUP, num_groups).max(0)
        ids = np.flatnonzero(logits >= np.partition(highest, -num)[-num])
    else:
        ids = np.arange(logits.size)
    if num < ids.size:
        row = logits[ids]
        ids = ids[row >= np.partition(row, -num)[-num]]  # all ties for the end
    return ids[np.argsort(-logits[ids], kind="stable")][:num]


def weigh(logits: Row, temperature: float) -> NDArray[np.float64]:
    """Probabilities up to a factor: the most likely id weighs 1."""
    with np.errstate(over="ignore"):  # a tiny temperature sends the others to -inf: weight 0
        return np.exp((logits - np.float64(logits.max())) / temperature)


def keep_top_p(logits: Row, weights: NDArray[np.float64], top_p: float) -> Ids:
    """The smallest set of the most likely whose share of the weights reaches top_p, sorted."""
    mass = top_p * weights.sum()
    for num in (*HEADS, logits.size):
        ids = most_likely(logits, num)
        reached = weights[ids].cumsum()
        if reached[-1] >= mass:
            break
    # The last sum can be a rounding error short of the mass.
    return ids[: reached.searchsorted(min(mass, reached[-1])) + 1]


def top_logprobs(logits: Row, token_id: int, n: int) -> tuple[float, list[tuple[int, float]]]:
    """The log-probability of an id, and the n most likely ids with theirs, before any step.

    Raises:
        SessionError: NaN or +inf somewhere, or -inf everywhere.
    """
    check_logits(logits)
    highest, log_total = float(logits.max()), float(np.log(weigh(logits, 1.0).sum()))
    ids = [token_id, *(most_likely(logits, n).tolist() if n else [])]
    chosen, *top = [(i, float(logits[i]) - highest - log_total) for i in ids]
    return chosen[1], top
