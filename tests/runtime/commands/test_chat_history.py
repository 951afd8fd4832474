"""Claims about the history of chats: bounded, private, and no chat fails for it."""

import json
import stat
from pathlib import Path

import pytest

from runtime.commands.chat_history import (
    MAX_BYTES,
    MAX_ENTRIES,
    History,
    history_file,
    open_history,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state/alpaca2-toolchain/chat_history"


def test_entries_come_back_oldest_first_and_line_by_line(file: Path) -> None:
    texts = ["你好", "two\nlines", 'a "quoted"\\ text', "/set seed 1"]
    for text in texts:
        History(file).add(text)
    assert History(file).entries() == texts
    assert len(file.read_bytes().splitlines()) == len(texts)


def test_the_file_is_for_its_owner_alone(file: Path) -> None:
    History(file).add("a")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_reading_alone_writes_nothing(file: Path, tmp_path: Path) -> None:
    assert History(file).entries() == []
    assert list(tmp_path.iterdir()) == []


def test_the_same_text_twice_is_kept_once(file: Path) -> None:
    history = History(file)
    for text in ("a", "a", "b", "a"):
        history.add(text)
    assert history.entries() == ["a", "b", "a"]


def test_two_chats_at_once_keep_the_texts_of_both(file: Path) -> None:
    one, other = History(file), History(file)
    one.add("a")
    other.add("b")
    one.add("c")
    assert History(file).entries() == ["a", "b", "c"]


def test_the_oldest_entries_go_when_there_are_too_many(file: Path) -> None:
    file.parent.mkdir(parents=True)
    numbers = [str(number) for number in range(MAX_ENTRIES)]
    file.write_text("".join(f'"{number}"\n' for number in numbers))
    History(file).add("new")
    assert History(file).entries() == [*numbers[1:], "new"]


def test_the_oldest_entries_go_when_they_are_too_large(file: Path) -> None:
    history = History(file)
    large = "龘" * (MAX_BYTES // 12)
    for text in "abcdef":
        history.add(text + large)
        assert file.stat().st_size <= MAX_BYTES
    assert [entry[0] for entry in history.entries()] == ["d", "e", "f"]
    history.add("x" * MAX_BYTES)  # too large by itself: the file is no larger for it
    assert file.stat().st_size <= MAX_BYTES


def test_lines_of_something_else_are_passed_over(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(b'"a"\nls -l\n\xff\n3\n"cut\n\n"b"\n')
    assert History(file).entries() == ["a", "b"]


@pytest.mark.parametrize("obstacle", ["a directory", "a link", "no directory can be made"])
def test_a_history_that_cannot_be_kept_is_told_once(
    obstacle: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    if obstacle == "no directory can be made":
        (tmp_path / "state").write_bytes(b"")
    else:
        file.parent.mkdir(parents=True)
    if obstacle == "a directory":
        file.mkdir()
    if obstacle == "a link":
        file.symlink_to(victim)
    history = History(file)
    for text in "abc":
        history.add(text)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("the history of this chat is not kept: ")
    assert history.entries() == []
    assert victim.read_bytes() == b""


def test_a_huge_file_is_not_read(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.parent.mkdir(parents=True)
    with file.open("wb") as stream:
        stream.truncate(1 << 30)
    assert History(file).entries() == []
    assert "is too large" in capsys.readouterr().err
    assert file.stat().st_size == 1 << 30


def test_the_place_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    below_home = Path("/home/someone/.local/state/alpaca2-toolchain/chat_history")
    assert history_file() == below_home
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert history_file() == below_home
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert history_file() == Path("/state/alpaca2-toolchain/chat_history")
    assert capsys.readouterr().err == ""


def test_a_user_without_a_home_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)

    def no_such_user(_: int) -> None:
        raise KeyError("no such user")

    monkeypatch.setattr("pwd.getpwuid", no_such_user)
    history = open_history()
    history.add("a")
    assert (history.entries(), capsys.readouterr().err) == (
        [],
        "the history of this chat is not kept: no home directory; set XDG_STATE_HOME\n",
    )


def test_a_line_is_a_json_text(file: Path) -> None:
    History(file).add("a\nb")
    assert json.loads(file.read_text()) == "a\nb"
