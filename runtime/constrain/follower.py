"""Follows one answer through a grammar: which tokens may come next, and where it may end."""

from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from runtime.constrain.messages import reason
from runtime.constrain.vocabulary import Bits, Vocabulary
from runtime.errors import SessionError

__all__ = ["Follower"]


class Follower:
    """A Constraint; see there for its methods.

    The grammar is that of the answer with a space before it. So a first token whose space is not
    shown is followed as it is, and any other one after a space that nobody sees: what is shown is
    what the grammar describes, to the letter.

    Args:
        vocabulary: of the model.
        matcher: at the start of the grammar, and this answer's own.
        at_start: the answer opens a text, as StreamingDetokenizer has it.
        stop_token_ids: tokens that end the answer, besides the tokenizer's own.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        matcher: LLMatcher,
        *,
        at_start: bool,
        stop_token_ids: Sequence[int],
    ) -> None:
        self._vocabulary, self._matcher, self._at_start = vocabulary, matcher, at_start
        self._ends = frozenset((vocabulary.eos_token_id, *stop_token_ids))
        self._end_ids = np.array(sorted(self._ends), np.intp)
        self._steps: list[int] = []  # of the matcher, for each token accepted
        if not at_start:
            self._go([vocabulary.space])

    @property
    def ended(self) -> bool:
        return self._matcher.is_stopped()

    def allowed(self) -> NDArray[np.bool_]:
        vocabulary = self._vocabulary
        bits = self._bits()
        if self._opens():
            opening = bits & vocabulary.dropping_space
            self._go([vocabulary.space])
            bits = opening | (self._bits() & ~vocabulary.dropping_space)
            may_end = self._matcher.is_accepting()
            self._matcher.rollback(1)
        else:
            may_end = self._matcher.is_accepting()
        bits = bits & vocabulary.with_text
        mask = np.unpackbits(bits, count=vocabulary.size, bitorder="little").view(np.bool_)
        mask[self._end_ids] = may_end
        if not mask.any():
            raise _dead_end("no token has a text that can follow")
        return mask

    def accept(self, token_id: int) -> None:
        steps = self._translate([token_id])
        self._go(steps)
        self._steps.append(len(steps))

    def valid_prefix(self, token_ids: Sequence[int]) -> int:
        known = (i in self._ends or self._vocabulary.has_text(i) for i in token_ids)
        num = next((at for at, each in enumerate(known) if not each), len(token_ids))
        if num == 0:
            return 0
        steps = self._translate(token_ids[:num])
        return max(0, self._matcher.validate_tokens(steps) - (len(steps) - num))

    def rollback(self, num_tokens: int) -> None:
        kept = len(self._steps) - num_tokens
        assert kept >= 0, "what was not accepted cannot be taken back"
        done = self._matcher.rollback(sum(self._steps[kept:]))
        assert done, "the compiler refuses grammars that cannot go back"
        del self._steps[kept:]

    def _opens(self) -> bool:
        return self._at_start and not self._steps

    def _translate(self, token_ids: Sequence[int]) -> list[int]:
        """The matcher's ids for ours; every token that ends an answer is its `end`."""
        vocabulary = self._vocabulary
        steps = [vocabulary.end if i in self._ends else i for i in token_ids]
        if self._opens() and not vocabulary.drops_space(steps[0]):
            return [vocabulary.space, *steps]
        return steps

    def _go(self, steps: list[int]) -> None:
        if not self._matcher.consume_tokens(steps):
            raise _dead_end(reason(self._matcher.get_error()))

    def _bits(self) -> Bits:
        packed = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise _dead_end(reason(self._matcher.get_error()))
        return np.frombuffer(packed, np.uint8)


def _dead_end(why: str) -> SessionError:
    return SessionError(
        "the constraint of the answer is at a dead end",
        got=why,
        next_step="loosen the schema or grammar",
        code="constraint_dead_end",
    )
