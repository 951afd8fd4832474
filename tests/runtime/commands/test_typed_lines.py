"""Claims about texts that are typed over several lines, and about what is remembered of them."""

import io
from collections.abc import Iterator

import pytest

from runtime.commands.typed_lines import PipedLines, Typed, open_lines, read_typed
from runtime.errors import PromptError


class Script:
    """Lines that were written before; prompts are noted."""

    def __init__(self, *lines: str) -> None:
        self._lines: Iterator[str] = iter(lines)
        self.prompts: list[str] = []

    def read(self, prompt: str) -> str:
        self.prompts.append(prompt)
        for line in self._lines:
            return line
        raise EOFError

    def remember(self, typed: Typed) -> None:
        raise NotImplementedError

    def interrupted(self) -> bool:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["  hello "], "hello"),
        (["a\\", "b"], "a\nb"),
        (["a\\", "b\\", "", "c"], "a\nb"),
        (["\\", "b"], "b"),
        (["a\\\nb"], "a\\\nb"),  # a paste: its own lines are left alone
        (["a\\\nb\\", "c"], "a\\\nb\nc"),
        (["a\\"], "a"),  # the end of input ends the text
        ([""], ""),
    ],
)
def test_a_line_that_ends_in_a_backslash_goes_on(lines: list[str], text: str) -> None:
    assert read_typed(Script(*lines)) == Typed(text, quoted=False)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (['"""', "a", "", "  b", '"""'], "a\n\n  b"),
        (['"""a', 'b"""'], "a\nb"),
        (['"""/reset"""  '], "/reset"),
        (['""" a ""b\\', '"""'], ' a ""b\\'),
        (['"""a\nb\n"""'], "a\nb"),  # pasted at once
        (['"""', "a"], "a"),  # the end of input ends the text
        (['""""""'], ""),
    ],
)
def test_a_text_in_quotes_is_all_between_them(lines: list[str], text: str) -> None:
    assert read_typed(Script(*lines)) == Typed(text, quoted=True)


def test_quotes_after_a_command_hold_what_it_is_given() -> None:
    typed = read_typed(Script('/system """You are brief.', 'And kind."""', "more"))
    assert typed == Typed("/system You are brief.\nAnd kind.", quoted=False)


def test_quotes_within_a_text_are_plain_text() -> None:
    assert read_typed(Script('what is """', "b")) == Typed('what is """', quoted=False)


def test_lines_that_go_on_have_another_prompt() -> None:
    script = Script("a\\", "b\\", "c")
    read_typed(script)
    assert script.prompts == ["> ", "... ", "... "]


def test_texts_follow_each_other_until_the_end_of_input() -> None:
    script = Script("a\\", "b", "c")
    assert [read_typed(script).text, read_typed(script).text] == ["a\nb", "c"]
    with pytest.raises(EOFError):
        read_typed(script)


@pytest.mark.parametrize("typed", [Typed("/a\n b", quoted=True), Typed("a\nb", quoted=False)])
def test_what_is_remembered_gives_the_same_when_it_is_typed_again(typed: Typed) -> None:
    assert read_typed(Script(typed.as_typed)) == typed


def test_a_pipe_gives_its_lines_and_ctrl_c_ends_the_program() -> None:
    lines = PipedLines(io.StringIO("a\r\n\nb").readline)
    assert [lines.read("> ") for _ in range(3)] == ["a\r", "", "b"]
    with pytest.raises(EOFError):
        lines.read("> ")
    assert not lines.interrupted()


def test_a_closed_standard_input_is_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(EOFError):
        open_lines().read("> ")


def test_a_line_without_end_is_refused_after_so_many_characters() -> None:
    """As `runtime chat < /dev/zero` gives: it took all memory."""
    lines = PipedLines(lambda most: "\0" * most)
    with pytest.raises(PromptError, match="too long; allowed: up to 4194304 characters"):
        read_typed(lines)
    with pytest.raises(EOFError):
        read_typed(lines)
