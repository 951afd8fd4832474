"""Many requests on one engine: who waits, who runs, and what the next call is.

Continuous batching over fixed cache slots: sequences join and leave between two calls. A prompt is
run part by part, in turns with the decode steps of the others, so that a running stream never
waits for more than one part and one decode step. First come, first served.
No threads and no clock but the one that is read: `step` is called until nothing is left.
"""

from collections import deque
from dataclasses import dataclass

from runtime.engine.calls import Calls, Counters, blame
from runtime.engine.engine import Engine
from runtime.engine.sequence import Request, Sequence
from runtime.errors import SessionError
from runtime.timing import now

__all__ = ["DEFAULT_POLICY", "Counters", "Policy", "Scheduler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the scheduler chooses.

    prefill_first: all prompts before any decode step, for whole batches that nobody reads along.
    speculate: whether drafts are looked up in what was said, where that pays.
    compact: whether sequences move to lower slots so that a smaller graph runs.
    """

    prefill_first: bool = False
    speculate: bool = True
    compact: bool = True


DEFAULT_POLICY = Policy()


class Scheduler:
    """Takes requests and runs them to their end, one call of a graph at a time."""

    def __init__(self, engine: Engine, policy: Policy = DEFAULT_POLICY) -> None:
        self.engine = engine
        self._policy = policy
        self._calls = Calls(engine, speculate=policy.speculate, compact=policy.compact)
        self.counters = self._calls.counters
        self._waiting: deque[Sequence] = deque()
        self._prefilling: Sequence | None = None
        self._running: list[Sequence] = []  # whose prompt has been run, in order of arrival
        self._decode_next = False
        self._ended: list[Sequence] = []  # since the last step

    @property
    def num_waiting(self) -> int:
        """Requests that have not begun."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
        return len(self._running) + (self._prefilling is not None)

    @property
    def is_idle(self) -> bool:
        """Whether `step` has nothing to do."""
        return not self.num_waiting and not self.num_running

    def add(self, request: Request) -> Sequence:
        """Takes a request; it runs as `step` is called.

        Raises:
            PromptError: no tokens, more than the cache holds, or no room for an answer.
            ParameterError: a token id in the parameters is not in the vocabulary.
            SessionError: the bundle cannot do what is asked.
        """
        self.engine.check_prompt(request.prompt_ids)
        if request.prompt_logprobs is not None:
            self.engine.check_scores()
        sequence = Sequence.of(request, self.engine.vocab_size)
        self._waiting.append(sequence)
        self.counters.requests += 1
        return sequence

    def abort(self, sequence: Sequence) -> None:
        """Ends a sequence, wherever it is; its slot is free at once."""
        if not sequence.ended:
            sequence.ended = True
            self._collect()

    def step(self) -> list[Sequence]:
        """Runs the next call.

        Returns:
            The sequences that have new tokens or have ended; `Sequence.take` gives the tokens.
        """
        self._end_late()
        self._admit()
        called = self._run_part() if self._is_prefill_turn() else self._run_answers()
        self._collect()
        ended, self._ended = self._ended, []
        return [*ended, *(sequence for sequence in called if not sequence.ended)]

    def _end_late(self) -> None:
        """Ends what has passed its time."""
        moment = now()
        for sequence in self._waiting:
            if moment > min(sequence.request.start_by, sequence.request.finish_by):
                sequence.fail(_too_late("the request waited too long", "try again later"))
        for sequence in self._all_running():
            if moment > sequence.request.finish_by:
                sequence.fail(_too_late("the request took too long", "ask for fewer tokens"))

    def _all_running(self) -> list[Sequence]:
        first = [] if self._prefilling is None else [self._prefilling]
        return [*first, *self._running]

    def _admit(self) -> None:
        """Lets the next request begin.

        One prompt at a time: the calls would be the same, and the later of two with the same
        beginning finds the rows of the first.
        """
        self._collect()
        while (
            self._prefilling is None
            and self._waiting
            and len(self._running) < self.engine.cache.num_lanes
        ):
            sequence = self._waiting.popleft()
            self._prefilling = sequence
            with blame([sequence]):
                self._place(sequence)
            self._collect()

    def _place(self, sequence: Sequence) -> None:
        engine, request = self.engine, sequence.request
        sequence.slot = slot = engine.cache.place(request.prompt_ids, alone=not self._running)
        sequence.placed_at = now()
        if request.prompt_logprobs is not None:
            slot.truncate(0)
            sequence.parts.extend(engine.score_parts(slot, request.prompt_ids))
        else:
            sequence.parts.extend(engine.parts(slot, request.prompt_ids, request.shared))

    def _collect(self) -> None:
        """Takes ended sequences out, and their slots back."""
        ended = [sequence for sequence in (*self._waiting, *self._all_running()) if sequence.ended]
        if not ended:
            return
        self._ended += ended
        self._waiting = deque(each for each in self._waiting if not each.ended)
        self._running = [each for each in self._running if not each.ended]
        if self._prefilling is not None and self._prefilling.ended:
            self._prefilling = None
        for sequence in ended:
            slot, sequence.slot = sequence.slot, None
            if slot is not None and sequence.error is None:
                self.engine.cache.release(slot)
            elif slot is not None:  # after a fault its rows are not to be trusted
                self.engine.cache.discard(slot)

    def _is_prefill_turn(self) -> bool:
        if self._prefilling is None or not self._running or self._policy.prefill_first:
            turn = self._prefilling is not None
        else:
            turn = not self._decode_next
        self._decode_next = turn
        return turn

    def _run_part(self) -> list[Sequence]:
        sequence = self._prefilling
        assert sequence is not None, "it is its turn"
        self._calls.run_part(sequence)
        if sequence.parts:
            return []
        self._prefilling = None
        self._running.append(sequence)
        return [sequence]

    def _run_answers(self) -> list[Sequence]:
        if self._running:
            self._calls.run_answers(self._running)
        return self._running


def _too_late(what: str, next_step: str) -> SessionError:
    return SessionError(what, next_step=next_step, code="deadline_exceeded")
