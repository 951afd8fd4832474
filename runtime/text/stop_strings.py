"""Ends an answer before a given text, wherever the chunks of the answer end."""

from collections.abc import Sequence

from runtime.errors import ParameterError

__all__ = ["StopStrings"]


class StopStrings:
    """Lets text through up to the stop string that is complete first, wherever chunks end."""

    def __init__(self, stop: Sequence[str]) -> None:
        if "" in stop:
            raise ParameterError("stop: an empty text would end every answer at once", param="stop")
        self._stop = list(stop)
        self._held = ""
        self.hit: str | None = None
        """The stop string that was found."""

    def add(self, text: str) -> str:
        """Returns the text that can no longer be part of a stop string."""
        if self.hit is not None:
            return ""
        self._held += text
        starts = [(self._held.find(stop), stop) for stop in self._stop]
        found = [(start + len(stop), start, stop) for start, stop in starts if start >= 0]
        certain = len(self._held) - self._partial()
        if found:
            _, certain, self.hit = min(found)
        released, self._held = self._held[:certain], self._held[certain:]
        return released

    def flush(self) -> str:
        """Returns what is left when no more text comes."""
        return self._held if self.hit is None else ""

    def _partial(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stop):
                return length
        return 0
