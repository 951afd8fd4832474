"""Claims about files of questions: UTF-8 as any program saves it, and all else refused by name."""

from pathlib import Path

import pytest

from runtime.errors import EvalError
from toolchain.evals.questions_file import read_questions

HEADER = "id,question,A,B,C,D,answer\n"
ROW = "0,小明有几个苹果？,一,二,三,四,A\n"


def saved(tmp_path: Path, data: bytes) -> Path:
    file = tmp_path / "law_val.csv"
    file.write_bytes(data)
    return file


def refusal(file: Path, has_header: bool = True) -> str:
    with pytest.raises(EvalError) as caught:
        read_questions(file, has_header)
    message = str(caught.value)
    assert "law_val.csv" in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize(("old", "new"), [("\n", "\r\n"), ("", "")])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(
    mark: str, old: str, new: str, tmp_path: Path
) -> None:
    text = mark + HEADER + ROW
    file = saved(tmp_path, (text.replace(old, new) if old else text).encode())
    assert read_questions(file, True) == read_questions(
        saved(tmp_path, (HEADER + ROW).encode()), True
    )


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "gb2312"])
def test_a_file_that_a_spreadsheet_in_china_saved_is_named_with_its_encoding(
    encoding: str, tmp_path: Path
) -> None:
    message = refusal(saved(tmp_path, (HEADER + ROW).encode(encoding)))
    assert "is not UTF-8; got what reads as GB18030; allowed: UTF-8" in message
    assert "iconv -f GB18030 -t UTF-8" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_of_wide_characters_is_no_text(encoding: str, tmp_path: Path) -> None:
    message = refusal(saved(tmp_path, (HEADER + ROW).encode(encoding)))
    assert "UTF-16" in message or "no text" in message or "not UTF-8" in message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "has no questions"),
        (HEADER.encode(), "has no questions"),
        (b"\n\n\n", "has no questions"),
        (b"\xff\xff\xff", "is not UTF-8; got byte 0xff"),
        (b"id,question,A,B,C,answer\n0,q,a,b,c,A\n", "columns are missing; got no D in"),
        (b"id;question;A;B;C;D;answer\n0;q;a;b;c;d;A\n", "columns are missing"),
        ((HEADER + "0,q,a,b,c\n").encode(), "question 0: too few cells"),
        ((HEADER + "0,q,a,b,c,d,A,x\n").encode(), "question 0: too many cells"),
        ((HEADER + "0,q,1,000,b,c,d,A\n").encode(), "question 0: too many cells"),
        (
            (HEADER + f"0,{'长' * 10**6},a,b,c,d,A\n").encode(),
            "after line 1: cannot be read; got field larger",
        ),
        ((HEADER + f"0,q,a,b,c,d,{'A' * 10**5}\n").encode(), "answer 'AAAA"),
        ((HEADER + '0,"q,a,b,c,d,A\n').encode(), "question 0: too few cells"),
        ((HEADER + "0,q\0,a,b,c,d,A\n").encode(), "is no text; got bytes of zero"),
        ((HEADER + "0,q,a,b,c,d,a\n").encode(), "question 0: not a question"),
        ((HEADER + "0,q,a,b,c,d, A\n").encode(), "question 0: not a question"),
    ],
)
def test_a_file_of_another_shape_is_refused_by_name(
    data: bytes, reason: str, tmp_path: Path
) -> None:
    assert reason in refusal(saved(tmp_path, data))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("q,a,b,c,d\n", "too few cells"), ("q,a,b,c,d,A,x\n", "too many cells"), ("", "no questions")],
)
def test_a_file_without_a_header_is_held_to_its_columns(
    text: str, reason: str, tmp_path: Path
) -> None:
    assert reason in refusal(saved(tmp_path, text.encode()), has_header=False)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "law_val.csv"
    with file.open("wb") as stream:
        stream.truncate(10**9)  # a hole: it takes no room
    assert "is too large" in refusal(file)
