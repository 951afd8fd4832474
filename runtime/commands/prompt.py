"""The text that a command is given: an argument, a file or standard input."""

import sys
from io import TextIOWrapper
from pathlib import Path

from runtime.errors import PromptError
from runtime.text.typed import from_argument, from_bytes

__all__ = ["read_prompt", "typed_line"]

STANDARD_INPUT = "-"


def read_prompt(prompt: str | None, file: Path | None) -> str:
    """The prompt of `generate`; of a file or standard input without its last line feed.

    Raises:
        PromptError: none is given, or both, a text that is not UTF-8, or standard input is closed.
    """
    if (prompt is None) == (file is None):
        raise PromptError(
            "give one prompt",
            got="none" if prompt is None else "a prompt and --file",
            allowed="PROMPT, - for standard input, or --file F",
        )
    if file is not None:
        return from_bytes(file.read_bytes(), str(file)).removesuffix("\n")
    assert prompt is not None, "one of both is given"
    if prompt == STANDARD_INPUT:
        return _standard_input().removesuffix("\n")
    return from_argument(prompt, "the prompt")


def typed_line(line: str) -> str:
    """A line that was read from a terminal or a pipe, as its bytes were.

    Raises:
        PromptError: it is not UTF-8.
    """
    if not isinstance(sys.stdin, TextIOWrapper):
        return line
    data = line.encode(sys.stdin.encoding, sys.stdin.errors or "strict")
    return from_bytes(data, "the line")


def _standard_input() -> str:
    if sys.stdin is None:
        raise PromptError(
            "standard input is closed", next_step="give the prompt as an argument or with --file"
        )
    if isinstance(sys.stdin, TextIOWrapper):
        return from_bytes(sys.stdin.buffer.read(), "standard input")
    return sys.stdin.read()
