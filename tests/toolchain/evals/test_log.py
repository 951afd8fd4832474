"""Claims about the log of answers: it is ours alone, and keeps what was answered."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.errors import EvalError, UserError
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.toolchain.evals.oracle import OracleSession, evaluate, read_exams, right_answers
from toolchain.evals.log import Answered, Log

KEY = {"a": 1}
ANSWER = Answered(
    subject="law", id=0, truth="A", prediction="B", shots=0, prompt_tokens=9, fits=True, text="x"
)


def add_one(directory: Path) -> Path:
    with Log(directory, KEY) as log:
        log.add(ANSWER)
    return log.path


@contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    """No file gets larger, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_link_in_its_place_is_refused_and_not_followed(tmp_path: Path) -> None:
    """The name of a log can be guessed; what a link points to lost its last line."""
    path = Log(tmp_path / "out", KEY).path
    path.parent.mkdir()
    victim = tmp_path / "victim"
    for content in ("precious\nwithout an end", "", '{"a": 1}\n{"half": '):
        victim.write_text(content)
        path.symlink_to(victim)
        with pytest.raises(EvalError, match="not a log of this evaluation; got a link"):
            Log(tmp_path / "out", KEY).__enter__()
        assert victim.read_text() == content
        path.unlink()


def test_a_pipe_in_its_place_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(Log(tmp_path, KEY).path)
    with pytest.raises(EvalError, match="got no regular file"):
        Log(tmp_path, KEY).__enter__()


def test_a_second_name_of_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("")
    os.link(tmp_path / "victim", Log(tmp_path, KEY).path)
    with pytest.raises(EvalError, match="got no regular file of one name"):
        Log(tmp_path, KEY).__enter__()
    assert (tmp_path / "victim").read_text() == ""


@pytest.mark.parametrize("content", ["precious", "precious\n", "precious\nand more", "{"])
def test_a_file_of_another_kind_in_its_place_stays_as_it_is(content: str, tmp_path: Path) -> None:
    path = Log(tmp_path, KEY).path
    path.write_text(content)
    if '{"a": 1}'.startswith(content):  # what a run killed in its first line has left
        add_one(tmp_path)
        return
    with pytest.raises(EvalError, match="line 1: not a log of this evaluation"):
        Log(tmp_path, KEY).__enter__()
    assert path.read_text() == content


@pytest.mark.parametrize("line", ["{}", "[" * 100_000, '{"id": 1e999}', "\0", "NaN"])
def test_a_line_that_is_no_answer_is_refused_by_its_number(line: str, tmp_path: Path) -> None:
    path = add_one(tmp_path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(EvalError, match="line 3: not a log of this evaluation"):
        Log(tmp_path, KEY).__enter__()


def test_a_full_disk_is_named_and_what_was_answered_is_kept(bundles: Path, tmp_path: Path) -> None:
    session = OracleSession(
        SentencePieceTokenizer(bundles / "checkpoint/tokenizer.model"), right_answers(read_exams())
    )
    with files_up_to(3000), pytest.raises(UserError, match=r"cannot write .*\.jsonl; got file too"):
        evaluate(session, tmp_path, shots=0)
    _, effort = evaluate(session, tmp_path, shots=0)
    assert effort.resumed > 5
    assert effort.asked > 5


def test_a_place_where_nothing_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write "):
        Log(tmp_path / "file" / "out", KEY).__enter__()
