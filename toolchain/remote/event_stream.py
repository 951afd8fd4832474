"""Server-sent events, from bytes as they come."""

from collections.abc import Iterator

__all__ = ["DONE", "EventReader"]

DONE = "[DONE]"  # the last event of a stream of OpenAI's API


class EventReader:
    """Gives the data of each event when its blank line has come.

    Only LF and CRLF end a line; text may hold every other character that Python counts as a line
    end. Comments and fields besides `data` are passed over.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[str] = []

    def feed(self, data: bytes) -> Iterator[str]:
        """Yields the data of the events that these bytes complete.

        Raises:
            UnicodeDecodeError: an event is not UTF-8.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            field = line.removesuffix(b"\r")
            if field.startswith(b"data:"):
                self._lines.append(field[5:].removeprefix(b" ").decode())
            elif not field and self._lines:
                whole, self._lines = "\n".join(self._lines), []
                yield whole
