"""How long the cases that are left will take, from those that were run."""

from collections.abc import Sequence
from dataclasses import dataclass

from toolchain.bench.grid import Case
from toolchain.bench.measure import TimedRun
from toolchain.bench.result import Mode
from toolchain.console import about

__all__ = ["Pace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Seconds of one run: per token of a prompt, and per step of all sequences."""

    prompt: float
    step: float

    def seconds(self, case: Case, output_tokens: int) -> float:
        """Of a run of a case."""
        prompts = self.prompt * case.input_tokens * case.batch_size
        return prompts + self.step * (output_tokens - 1)


class Pace:
    """Words and the fraction that is done, before every step of a run.

    Args:
        cases: to be measured, in order.
        repeats: timed runs of each.
        mode: normal runs each case once more for a single token.
        num_earlier: cases that were measured before.
    """

    def __init__(self, cases: Sequence[Case], repeats: int, mode: Mode, num_earlier: int) -> None:
        self.repeats = repeats
        self.ones = mode == "normal"
        self._left = list(cases)
        self._num_done, self._num_cases = num_earlier, num_earlier + len(cases)
        self._spent = 0.0
        self._learned: Learned | None = None

    def learn(self, case: Case, run: TimedRun) -> None:
        """What a run of a case took."""
        step = run.pre_next + run.forward_next + run.post_next
        num_tokens = case.input_tokens * case.batch_size
        self._learned = Learned(prompt=run.forward_first / num_tokens, step=step)

    def warming_up(self, case: Case) -> tuple[str, float]:
        """Before the untimed run of a batch size."""
        text = f"warming up: {case.batch_size} x {case} tokens"
        return f"{text}{self._rest()}", self._fraction()

    def measuring(self, case: Case) -> tuple[str, float]:
        """Before the timed runs of a case, which is the next one."""
        self._num_done += 1
        text = f"case {self._num_done} of {self._num_cases}{self._rest()}"
        told = f"{text}: {case.batch_size} x {case} tokens", self._fraction()
        self._spent += self._seconds(self._left.pop(0))
        return told

    def _seconds(self, case: Case) -> float:
        if self._learned is None:
            return 0.0
        alone = self._learned.seconds(case, 1) if self.ones else 0.0
        return self.repeats * (self._learned.seconds(case, case.output_tokens) + alone)

    def _seconds_left(self) -> float:
        return sum(map(self._seconds, self._left))

    def _rest(self) -> str:
        """Nothing while nothing is known."""
        return "" if self._learned is None else f", about {about(self._seconds_left())} left"

    def _fraction(self) -> float:
        left = self._seconds_left()
        return self._spent / (self._spent + left) if left else 0.0
