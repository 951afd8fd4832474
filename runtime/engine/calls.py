"""One call of a graph for some sequences: what goes in, and the tokens that come out.

Whose turn it is, the scheduler knows.
"""

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager
from dataclasses import dataclass

from runtime.engine.engine import Engine
from runtime.engine.kv_cache import Slot
from runtime.engine.sequence import Sequence
from runtime.engine.speculation import CallCosts, Drafter
from runtime.errors import DeviceLostError
from runtime.sessions.base import Logits
from runtime.timing import now

__all__ = ["Calls", "Counters", "blame", "slot_of"]


@dataclass(slots=True)
class Counters:
    """What was done since the scheduler was made."""

    requests: int = 0
    prompt_parts: int = 0
    decode_calls: int = 0
    verify_calls: int = 0
    drafted: int = 0
    accepted: int = 0
    moves: int = 0


class Calls:
    """Runs parts of prompts and steps of answers.

    Args:
        engine: what runs them.
        speculate: whether drafts are looked up in what was said, where that pays.
        compact: whether sequences move to lower slots so that a smaller graph runs.
    """

    def __init__(self, engine: Engine, *, speculate: bool, compact: bool) -> None:
        self.counters = Counters()
        self._engine, self._speculate, self._wants_compact = engine, speculate, compact
        self._costs = CallCosts(sizes=engine.verify_sizes)

    def run_part(self, sequence: Sequence) -> None:
        """Runs the next part of a prompt; its last one gives a token."""
        slot = slot_of(sequence)
        with blame([sequence]):
            part = sequence.parts.popleft()
            logits = self._engine.run_part(slot, part)
            self.counters.prompt_parts += 1
            if sequence.request.prompt_logprobs is not None:
                sequence.read_prompt(logits, part)
                logits = logits[-1]
            if not sequence.parts:
                sequence.accept(logits, slot.room)

    def run_answers(self, sequences: list[Sequence]) -> None:
        """Runs the last token of every sequence, with drafts where they pay."""
        if self._wants_compact:
            self._compact(sequences)
        drafts = self._drafts(sequences)
        with blame(sequences):
            rows = self._call(sequences, drafts)
            for sequence, draft, logits in zip(sequences, drafts, rows, strict=True):
                with blame([sequence]):
                    self._accept(sequence, draft, logits)

    def _call(self, sequences: list[Sequence], drafts: list[list[int]]) -> SequenceOf[Logits]:
        """Rows of logits, (n, V), per sequence."""
        slots = [slot_of(sequence) for sequence in sequences]
        started = now()
        if any(drafts):
            inputs = [
                [sequence.token_ids[-1], *draft]
                for sequence, draft in zip(sequences, drafts, strict=True)
            ]
            rows = self._engine.verify(slots, inputs)
            for slot, (last, *_) in zip(slots, inputs, strict=True):  # as decode does by itself
                slot.append([last])
            self.counters.verify_calls += 1
            self.counters.drafted += sum(map(len, drafts))
        else:
            logits = self._engine.decode(slots, [sequence.token_ids[-1] for sequence in sequences])
            rows = list(logits[:, None])
            self.counters.decode_calls += 1
        if len(sequences) == 1:
            self._costs.saw(len(rows[0]), now() - started)
        return rows

    def _accept(self, sequence: Sequence, draft: list[int], logits: Logits) -> None:
        """Takes tokens as long as they are those of the draft, and one more."""
        slot = slot_of(sequence)
        for row, expected in zip(logits, [*draft, None], strict=True):
            token_id = sequence.accept(row, slot.room)
            if sequence.drafter is not None:
                sequence.drafter.extend(token_id)
            if sequence.ended or token_id != expected:
                break
            slot.append([token_id])
            self.counters.accepted += 1

    def _drafts(self, sequences: list[Sequence]) -> list[list[int]]:
        """Drafts per sequence; none where no graph checks them for all, or none pay."""
        most = self._engine.most_rows([slot_of(sequence) for sequence in sequences]) - 1
        if not self._speculate or most < 1:
            return [[] for _ in sequences]
        for sequence in sequences:
            if sequence.drafter is None:
                sequence.drafter = Drafter(sequence.token_ids)
        return [
            sequence.sampler.possible(
                sequence.drafter.propose(min(most, sequence.most_drafts), self._costs)
            )
            for sequence in sequences
            if sequence.drafter is not None
        ]

    def _compact(self, sequences: list[Sequence]) -> None:
        slots = [slot_of(sequence) for sequence in sequences]
        try:
            moved = self._engine.cache.compact(slots)
        except Exception:  # nothing was lost; if the device is gone, the next call says so
            return
        for sequence, slot in zip(sequences, moved, strict=True):
            self.counters.moves += slot is not sequence.slot
            sequence.slot = slot


@contextmanager
def blame(sequences: list[Sequence]) -> Iterator[None]:
    """Ends these sequences with the error of what is done for them; the others go on.

    Raises:
        DeviceLostError: none can.
    """
    try:
        yield
    except Exception as error:
        for sequence in sequences:
            if not sequence.ended:
                sequence.fail(error)
        if isinstance(error, DeviceLostError):
            raise


def slot_of(sequence: Sequence) -> Slot:
    """The slot of a sequence that runs."""
    assert sequence.slot is not None, "a running sequence has a slot"
    return sequence.slot
