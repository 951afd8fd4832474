r"""What a person types, text by text: lines that belong together come as one.

A text goes on after a line that ends in \, and from one line of quotes to the next. What is pasted
at once is one text. Knows nothing of commands or of models.
"""

import locale
import os
import re
import sys
from collections.abc import Callable
from io import StringIO
from select import select
from typing import NamedTuple, Protocol

from runtime.commands.chat_history import History, open_history
from runtime.commands.prompt import typed_line
from runtime.console import note
from runtime.encodings import can_write_chinese
from runtime.errors import PromptError

__all__ = ["Lines", "PipedLines", "TerminalLines", "Typed", "open_lines", "read_typed"]

PROMPT, GOES_ON = "> ", "... "
MOST_CHARACTERS = 1 << 22  # more than the longest context
PASTE_SECONDS = 0.02  # within which the next line of a paste is there
QUOTES = '"""'
COMMAND = re.compile(r"/[a-z]+(\s|$)")  # which is a line by itself
QUOTED = re.compile(rf"\s*(/[a-z]+\s+)?{QUOTES}")


class Typed(NamedTuple):
    """A text; one in quotes is never a command."""

    text: str
    quoted: bool

    @property
    def as_typed(self) -> str:
        """What gives the same when it is typed."""
        return f"{QUOTES}{self.text}{QUOTES}" if self.quoted else self.text


class Lines(Protocol):
    """Where lines come from."""

    def read(self, prompt: str) -> str:
        """The next line, or all that was pasted at once.

        Raises:
            EOFError: there is no more.
            PromptError: it is not text.
        """

    def remember(self, typed: Typed) -> None:
        """Notes a text for later."""

    def interrupted(self) -> bool:
        """Drops what is being typed when Ctrl-C is pressed; False where that ends the program."""


def read_typed(lines: Lines) -> Typed:
    """The next text, perhaps an empty one. The end of input ends it, as its last line does.

    Raises:
        EOFError: there is no more.
        PromptError: it is not text.
    """
    text = lines.read(PROMPT)
    opening = QUOTED.match(text)
    if opening is None:
        while text.endswith("\\"):
            text = text[:-1] + _rest(lines)
        return Typed(text.strip(), quoted=False)
    command, text = opening[1] or "", text[opening.end() :]
    while not text.rstrip().endswith(QUOTES):
        more = _rest(lines)
        text += more or QUOTES
    text = text.rstrip().removesuffix(QUOTES).strip("\n")
    return Typed(command + text, quoted=not command)


def _rest(lines: Lines) -> str:
    """A line feed and the next line; nothing at the end of input."""
    try:
        return "\n" + lines.read(GOES_ON)
    except EOFError:
        return ""


class PipedLines:
    """Lines of a file or a pipe; `read_line` takes how many characters to read at most."""

    def __init__(self, read_line: Callable[[int], str]) -> None:
        self._read_line = read_line
        self._ended = False

    def read(self, prompt: str) -> str:
        """See Lines.read; a pipe is not prompted."""
        line = self._read_line(MOST_CHARACTERS + 1)
        if not line or self._ended:
            raise EOFError
        if len(line) > MOST_CHARACTERS:  # perhaps without an end: what follows is no text
            self._ended = True
            raise PromptError(
                "a line of standard input is too long",
                allowed=f"up to {MOST_CHARACTERS} characters",
                next_step="shorten it",
            )
        return typed_line(line).removesuffix("\n")

    def remember(self, typed: Typed) -> None:
        """See Lines.remember; what a program wrote nobody will look for."""

    def interrupted(self) -> bool:
        """See Lines.interrupted."""
        return False


class TerminalLines:
    """Lines of a terminal, edited with readline and kept for the next time."""

    def __init__(self, history: History) -> None:
        import readline

        self._readline = readline
        self._history = history
        self._prompt = PROMPT
        readline.set_auto_history(False)  # a text of several lines is one entry
        if os.environ.get("TERM", "dumb") != "dumb":  # which would show the codes
            readline.parse_and_bind("set enable-bracketed-paste on")
        for entry in history.entries():
            readline.add_history(_for_readline(entry))

    def read(self, prompt: str) -> str:
        """See Lines.read."""
        self._prompt = prompt
        lines = [_input(prompt)]
        try:
            while not COMMAND.match(lines[0]) and select([sys.stdin], [], [], PASTE_SECONDS)[0]:
                lines.append(input())
        except EOFError:
            pass  # told by the next call; what is there is to be asked
        return typed_line("\n".join(lines))

    def remember(self, typed: Typed) -> None:
        """See Lines.remember."""
        self._readline.add_history(_for_readline(typed.as_typed))
        self._history.add(typed.as_typed)

    def interrupted(self) -> bool:
        """See Lines.interrupted; where nothing was typed it says how to leave."""
        empty = self._prompt == PROMPT and not self._readline.get_line_buffer()
        note("\nCtrl-D or /exit leaves." if empty else "")
        return True


def _for_readline(text: str) -> str:
    """A text that readline takes, which writes it in the encoding of the locale."""
    encoding = locale.getencoding()
    if can_write_chinese(encoding):
        return text.encode(encoding, "replace").decode(encoding)
    return text.encode().decode(encoding, "surrogateescape")  # see typed_line, which goes back


def _input(prompt: str) -> str:
    """As input(), with the prompt on stderr where stdout is a file of answers."""
    if sys.stdout.isatty():
        return input(prompt)
    print(prompt, end="", file=sys.stderr, flush=True)
    return input()


def open_lines() -> Lines:
    """Lines of standard input."""
    if sys.stdin is None:
        return PipedLines(StringIO().readline)
    if sys.stdin.isatty():
        return TerminalLines(open_history())
    return PipedLines(sys.stdin.readline)
