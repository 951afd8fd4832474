"""Text as people and their editors give it: UTF-8 first, the locale's encoding second."""

import locale
import os

from runtime.encodings import can_write_chinese
from runtime.errors import PromptError

__all__ = ["from_argument", "from_bytes"]

BOM = "\ufeff"
GUESSES = {"GBK": "gb18030", "Big5": "big5"}  # what else a text may be in


def from_argument(text: str, what: str) -> str:
    """An argument of the command line, from the very bytes that the shell passed.

    Raises:
        PromptError: see from_bytes.
    """
    return from_bytes(os.fsencode(text), what)


def from_bytes(data: bytes, what: str) -> str:
    """Text without a byte order mark, with line feeds alone between its lines.

    Args:
        data: the bytes.
        what: they are, for the message.

    Raises:
        PromptError: they are neither UTF-8 nor in the encoding of the locale.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        text = _in_locale(data, what, error)
    return text.removeprefix(BOM).replace("\r\n", "\n")


def _in_locale(data: bytes, what: str, error: UnicodeDecodeError) -> str:
    encoding = locale.getencoding()
    # Any bytes are Latin-1, so it says nothing about them.
    if can_write_chinese(encoding) and encoding.lower() not in ("utf-8", "utf8"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            pass  # the first error is the one to tell
    character = len(data[: error.start].decode())
    guess = next((f" ({name}?)" for name, each in GUESSES.items() if _decodes(data, each)), "")
    raise PromptError(
        f"{what} is not UTF-8{guess}",
        got=f"byte 0x{data[error.start]:02x} at character {character}",
        allowed="UTF-8, or the encoding of the locale",
        next_step="convert it, for example with iconv -f GBK -t UTF-8",
    ) from error


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
