"""The text that a command is given: an argument, a file or standard input."""

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from runtime.errors import PromptError
from runtime.text.typed import from_argument, from_bytes

__all__ = ["read_prompt", "typed_line"]

STANDARD_INPUT = "-"
MAX_BYTES = 1 << 26  # 64 MiB, more than the longest context


def read_prompt(prompt: str | None, file: Path | None) -> str:
    """The prompt of `generate`; of a file or standard input without its last line feed.

    Raises:
        PromptError: none is given, or both, a text that is not UTF-8 or without end, or standard
            input is closed.
    """
    if (prompt is None) == (file is None):
        raise PromptError(
            "give one prompt",
            got="none" if prompt is None else "a prompt and --file",
            allowed="PROMPT, - for standard input, or --file F",
        )
    if file is not None:
        with file.open("rb") as stream:
            return _text(stream, str(file))
    assert prompt is not None, "one of both is given"
    if prompt == STANDARD_INPUT:
        return _standard_input()
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
        return _text(sys.stdin.buffer, "standard input")
    return sys.stdin.read().removesuffix("\n")


def _text(stream: BinaryIO, what: str) -> str:
    """The text of a stream, without its last line feed."""
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise PromptError(
            f"{what} is too long", allowed=f"up to {MAX_BYTES} bytes", next_step="shorten it"
        )
    return from_bytes(data, what).removesuffix("\n")
