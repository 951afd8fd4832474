"""Text that is not ours, made harmless for a terminal or a log."""

import unicodedata

__all__ = ["printable"]

# Left as they are: they only move on.
LAYOUT = "\n\t"
# What a terminal obeys or reorders by: controls, formats such as U+202E, lone surrogates.
UNSAFE = ("Cc", "Cf", "Cs")
# Formats that belong to scripts and to emoji.
JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""The text with every control character written out, such as \x1b."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character in LAYOUT or character in JOINERS:
        return character
    if unicodedata.category(character) in UNSAFE:
        return character.encode("unicode_escape").decode()
    return character
