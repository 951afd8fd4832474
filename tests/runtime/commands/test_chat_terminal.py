"""Claims about `runtime chat` on a terminal: history, editing, pastes, Ctrl-C and Ctrl-D."""

import io
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.dialogues import CAPITAL, STEPS
from tests.serving import PATIENCE

MAIN = "from runtime.cli import main; main()"
# After this many writes of an answer the program waits until Ctrl-C is pressed.
WAIT = """
import os, signal, sys
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
write, state = sys.stdout.write, [0]
def wait_and_write(text):
    written = write(text)
    if text.strip():
        state[0] += 1
        if state[0] == 6:
            sys.stdout.flush()
            os.read(reader, 1)
    return written
sys.stdout.write = wait_and_write
"""
PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"
UP, LEFT, CTRL_A, CTRL_C, CTRL_D = "\x1b[A", "\x1b[D", "\x01", "\x03", "\x04"

# Python 3.12 warns of every fork in a process with threads; the child starts another program.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


class Terminal:
    """A chat on a terminal of its own."""

    def __init__(self, bundle: Path, home: Path, script: str = MAIN, **variables: str) -> None:
        environment = {**os.environ, "HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        environment |= variables
        environment.pop("XDG_STATE_HOME", None)
        self.child = pexpect.spawn(
            sys.executable,
            ["-c", script, "chat", str(bundle)],
            env=environment,
            encoding="utf-8",
            dimensions=(24, 80),
            timeout=PATIENCE,
        )
        self.child.delaybeforesend = None
        self.child.logfile_read = self.seen = io.StringIO()
        self.sees("/exit leaves.")
        self.sees("> ")

    def sees(self, text: str) -> None:
        self.child.expect_exact(text)

    def types(self, text: str) -> None:
        self.child.send(text)

    def asks(self, question: str, answer: str) -> None:
        """Types a question and waits for its answer and the next prompt."""
        self.types(f"{question}\r")
        self.sees(answer.replace("\n", "\r\n"))
        self.sees(" new tokens, finish ")
        self.sees("> ")

    def leaves(self) -> None:
        self.types(CTRL_D)
        self.sees(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus == 0


@pytest.fixture
def bundle(bundles: Path) -> Path:
    return bundles / "talk-int4"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / ".local/state/alpaca2-toolchain/chat_history"


@pytest.fixture
def terminal(bundle: Path, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(bundle, tmp_path)
    yield opened
    opened.child.close(force=True)


def test_what_was_typed_is_there_in_the_next_chat(
    bundle: Path, tmp_path: Path, history: Path, terminal: Terminal
) -> None:
    terminal.asks(CAPITAL[0], CAPITAL[1])
    terminal.leaves()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert history.read_text(encoding="utf-8") == f'"{CAPITAL[0]}"\n'
    again = Terminal(bundle, tmp_path)
    again.asks(UP, CAPITAL[1])
    again.leaves()


def test_where_nothing_was_typed_nothing_is_written(tmp_path: Path, terminal: Terminal) -> None:
    terminal.types("\r")
    terminal.sees("> ")
    terminal.leaves()
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_written_is_told_once(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "no-home"
    home.write_bytes(b"")
    terminal = Terminal(bundle, home)
    terminal.asks(CAPITAL[0], CAPITAL[1])
    terminal.types("/reset\r")
    terminal.sees("> ")
    terminal.asks(UP + UP, CAPITAL[1])  # still known in this chat
    terminal.leaves()
    assert terminal.seen.getvalue().count("the history of this chat is not kept: ") == 1


def test_a_line_is_edited_before_it_is_asked(terminal: Terminal) -> None:
    terminal.asks(f"{STEPS[0][1:]}{CTRL_A}{STEPS[0][0]}", STEPS[1])
    terminal.leaves()


def test_lines_that_go_on_are_one_question_and_one_entry(terminal: Terminal, history: Path) -> None:
    terminal.types("/system a\\\r")
    terminal.sees("... ")
    terminal.types("b\r")
    terminal.sees("system prompt: a\r\nb\r\n")
    terminal.types('"""\r')
    terminal.sees("... ")
    terminal.types("/reset\r")
    terminal.sees("... ")
    terminal.types('or not"""\r')
    terminal.sees(" new tokens, finish ")
    terminal.sees("> ")
    terminal.leaves()
    entries = ['"/system a\\nb"', '"\\"\\"\\"/reset\\nor not\\"\\"\\""']
    assert history.read_text(encoding="utf-8").splitlines() == entries


@pytest.mark.parametrize(("begins", "ends"), [("", "\r"), (PASTE_BEGINS, f"{PASTE_ENDS}\r")])
def test_a_paste_of_several_lines_is_one_question(
    begins: str, ends: str, terminal: Terminal, history: Path
) -> None:
    """With the brackets that terminals send around it, or all at once."""
    terminal.types(f"{begins}Name\rthree\rsteps.{ends}")
    terminal.sees(" new tokens, finish ")
    terminal.sees("> ")
    terminal.leaves()
    assert history.read_text(encoding="utf-8") == '"Name\\nthree\\nsteps."\n'


def test_a_locale_without_chinese_keeps_a_chinese_history(bundle: Path, tmp_path: Path) -> None:
    """What readline was given could not be written in the encoding of the locale."""
    made = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / "en_US")]
    subprocess.run(made, capture_output=True, check=False)
    if not (tmp_path / "en_US").exists():
        pytest.skip("no source of the locale en_US")
    for typed in (CAPITAL[0], UP):
        terminal = Terminal(bundle, tmp_path, LOCPATH=str(tmp_path), LC_ALL="en_US")
        terminal.asks(typed, CAPITAL[1])
        terminal.leaves()


def test_a_terminal_without_control_codes_gets_none(bundle: Path, tmp_path: Path) -> None:
    terminal = Terminal(bundle, tmp_path, TERM="dumb")
    terminal.asks(CAPITAL[0], CAPITAL[1])
    terminal.leaves()
    assert "\x1b" not in terminal.seen.getvalue()


def test_a_command_within_what_is_typed_ahead_is_a_line_by_itself(terminal: Terminal) -> None:
    terminal.types(f"/reset\r{STEPS[0]}\r")
    terminal.sees("forgotten")
    terminal.sees(STEPS[1].replace("\n", "\r\n"))


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(bundle: Path, tmp_path: Path) -> None:
    terminal = Terminal(bundle, tmp_path, script=WAIT + MAIN)
    terminal.types(f"{STEPS[0]}\r")
    terminal.sees("1. Export")
    terminal.types(CTRL_C)
    terminal.sees("[stopped: ")
    terminal.sees(" new tokens (")
    terminal.sees("> ")
    terminal.types("/stats\r")
    terminal.sees("1 turn")
    terminal.sees("0 finished, 1 stopped")
    terminal.types("/reset\r")
    terminal.asks(CAPITAL[0], CAPITAL[1])
    terminal.leaves()


def test_ctrl_c_at_the_prompt_drops_the_line_or_says_how_to_leave(
    terminal: Terminal, history: Path
) -> None:
    terminal.types(CTRL_C)
    terminal.sees("Ctrl-D or /exit leaves.\r\n")
    terminal.sees("> ")
    terminal.types(f"dropped{LEFT}")
    terminal.sees("dropped")
    terminal.types(CTRL_C)
    terminal.sees("> ")
    assert "leaves" not in terminal.child.before
    terminal.types("also dropped\\\r")
    terminal.sees("... ")
    terminal.types(CTRL_C)
    terminal.sees("> ")
    assert "leaves" not in terminal.child.before
    terminal.asks(CAPITAL[0], CAPITAL[1])
    terminal.leaves()
    assert len(history.read_text(encoding="utf-8").splitlines()) == 1


def test_answers_go_to_a_file_and_prompts_to_the_terminal(bundle: Path, tmp_path: Path) -> None:
    script = f'import sys; sys.stdout = open({str(tmp_path / "answers")!r}, "w")\n{MAIN}'
    terminal = Terminal(bundle, tmp_path, script=script)
    terminal.types(f"{STEPS[0]}\r")
    terminal.sees(" new tokens, finish ")
    terminal.sees("> ")
    terminal.leaves()
    assert (tmp_path / "answers").read_text(encoding="utf-8") == STEPS[1] + "\n"
