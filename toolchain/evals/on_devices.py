"""A bundle on several devices of one box as an examinee.

Whichever device is free takes the next question. The answers are those of one device, so the log is
the same: a run on one goes on where a run on several ended, and the other way round.
"""

from collections import Counter
from collections.abc import Sequence
from queue import SimpleQueue

from pydantic import JsonValue

from runtime.text.tokenizer import Tokenizer
from toolchain.evals.answers import Answer
from toolchain.evals.examinee import OnBundle
from toolchain.evals.prompts import Prompt
from toolchain.evals.styles import Style

__all__ = ["OnDevices"]


class OnDevices:
    """See Examinee; of examinees on the same bundle, each with a session of its own."""

    def __init__(self, each: Sequence[OnBundle]) -> None:
        self._each = each
        self._free: SimpleQueue[OnBundle] = SimpleQueue()
        for examinee in each:
            self._free.put(examinee)

    @property
    def tokenizer(self) -> Tokenizer:
        """See Examinee."""
        return self._each[0].tokenizer

    @property
    def context_len(self) -> int:
        """See Examinee."""
        return self._each[0].context_len

    @property
    def described(self) -> dict[str, str]:
        """See Examinee."""
        return self._each[0].described

    @property
    def identity(self) -> dict[str, JsonValue]:
        """See Examinee."""
        return self._each[0].identity

    @property
    def concurrency(self) -> int:
        """See Examinee."""
        return len(self._each)

    def ask(self, style: Style, prompt: Prompt) -> Answer:
        """See Examinee."""
        examinee = self._free.get()
        try:
            return examinee.ask(style, prompt)
        finally:
            self._free.put(examinee)

    def effort(self) -> dict[str, int]:
        """See Examinee."""
        counts: Counter[str] = Counter()
        for examinee in self._each:
            counts.update(examinee.effort())
        return dict(counts)
