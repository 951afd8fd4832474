"""One streamed request: when its events came, and what it counted or why it failed.

The bytes come from elsewhere; times are those of the process's clock, in seconds.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from toolchain.remote.event_stream import DONE, EventReader
from toolchain.remote.failure import Failure, of_error_event

__all__ = ["Exchange", "Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request that has ended.

    due: when it was to be sent.
    events: when each event with a choice came; the first has the first token.
    prompt_tokens, completion_tokens: as the server counted.
    """

    due: float
    sent: float
    events: tuple[float, ...]
    ended: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failure: Failure | None = None

    @property
    def ttft(self) -> float:
        """Time to the first token."""
        return self.events[0] - self.sent

    @property
    def latency(self) -> float:
        """Time to the last token; what the server sends after it does not count."""
        return self.events[-1] - self.sent

    @property
    def tpot(self) -> float:
        """Time per output token after the first; 0 where there is none."""
        rest = self.completion_tokens - 1
        return (self.latency - self.ttft) / rest if rest > 0 else 0.0


@dataclass(slots=True)
class Reading:
    """Reads a stream as its bytes come."""

    events: list[float] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    done: bool = False
    failure: Failure | None = None
    _reader: EventReader = field(default_factory=EventReader)

    def add(self, data: bytes, at: float) -> None:
        """Takes bytes that came at a time."""
        try:
            for event in self._reader.feed(data):
                self._event(event, at)
        except (ValueError, RecursionError):  # no UTF-8, no JSON
            self._fail(Failure("bad_reply", f"no event of a completion: {data[:80]!r}"))

    def _event(self, event: str, at: float) -> None:
        if event == DONE:
            self.done = True
            return
        document = json.loads(event)
        if not isinstance(document, dict):
            raise ValueError("no object")
        if "error" in document:
            self._fail(of_error_event(document))
        if document.get("choices"):
            self.events.append(at)
        if isinstance(document.get("usage"), dict):
            self.usage = document["usage"]

    def _fail(self, failure: Failure) -> None:
        """The first failure counts: what follows comes of it."""
        self.failure = self.failure or failure

    def result(self, due: float, sent: float, ended: float, failure: Failure | None) -> Exchange:
        """The request, at its end.

        Args:
            due: when it was to be sent.
            sent: when it was.
            ended: when it ended.
            failure: of the connection.
        """
        counts = [self.usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        counted = [count for count in counts if type(count) is int]
        if failure is not None:
            self._fail(failure)
        elif not self.done:
            self._fail(Failure("disconnected", "the stream ended without its last event"))
        elif not self.events:
            self._fail(Failure("no_tokens", "the stream had no token"))
        elif len(counted) < len(counts):
            self._fail(Failure("no_usage", "the stream did not say how many tokens it had"))
        prompt_tokens, completion_tokens = counted if len(counted) == len(counts) else (0, 0)
        return Exchange(
            due=due,
            sent=sent,
            events=tuple(self.events),
            ended=ended,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            failure=self.failure,
        )
