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
        self.hit = False

    def add(self, text: str) -> str:
        """Returns the text that can no longer be part of a stop string."""
        if self.hit:
            return ""
        self._held += text
        starts = [(self._held.find(stop), stop) for stop in self._stop]
        found = [(start + len(stop), start) for start, stop in starts if start >= 0]
        self.hit = bool(found)
        certain = min(found)[1] if found else len(self._held) - self._partial()
        released, self._held = self._held[:certain], self._held[certain:]
        return released

    def flush(self) -> str:
        """Returns what is left when no more text comes."""
        return "" if self.hit else self._held

    def _partial(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stop):
                return length
        return 0
