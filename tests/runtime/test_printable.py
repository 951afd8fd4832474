"""Text that is not ours reaches a terminal without moving it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb\x00c\x7f\x9b1m", "a\\rb\\x00c\\x7f\\x9b1m"),
        ("left\u202eright\u2066", "left\\u202eright\\u2066"),
        ("\udcff.bin", "\\udcff.bin"),
        ("two\nlines\tand [bold]", "two\nlines\tand [bold]"),
        ("北京，👩\u200d🚀 e\u0301", "北京，👩\u200d🚀 e\u0301"),
    ],
)
def test_controls_are_written_out_and_the_rest_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_is_shown_can_be_shown_and_encoded(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    shown.encode()
