"""One CSV file of questions: UTF-8, a row each; anything else is refused by name."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import EvalError
from runtime.json_file import read_file

__all__ = ["LETTERS", "Question", "read_questions"]

LETTERS = ("A", "B", "C", "D")
COLUMNS = ("question", *LETTERS, "answer")  # of a file without a header row
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how a file of Excel's "Unicode text" begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One row of a file; its id is the number of the row, from 0."""

    id: int
    text: str
    choices: tuple[str, ...]  # in the order of LETTERS
    answer: str


def read_questions(file: Path, has_header: bool) -> tuple[Question, ...]:
    """All questions of a file, which has one at least.

    Raises:
        EvalError: not UTF-8, not a CSV of this shape, or no question in it.
    """
    text = _text(file, read_file(file, EvalError))
    reader = csv.DictReader(io.StringIO(text, newline=""), None if has_header else COLUMNS)
    try:
        questions = tuple(_questions(file, reader))
    except csv.Error as error:
        raise EvalError(
            f"{file}, after line {reader.line_num}: cannot be read", got=error, allowed="a CSV file"
        ) from error
    if not questions:
        raise EvalError(f"{file} has no questions", next_step="take the published file")
    return questions


def _text(file: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = _encoding(data)
        raise EvalError(
            f"{file} is not UTF-8",
            got=f"what reads as {encoding}" if encoding else f"byte {data[error.start]:#x}",
            allowed="UTF-8",
            next_step=f"save it again as UTF-8: iconv -f {encoding or 'ENCODING'} -t UTF-8",
        ) from error
    if "\0" in text:
        raise EvalError(f"{file} is no text", got="bytes of zero", next_step="save it as UTF-8")
    return text


def _encoding(data: bytes) -> str:
    """What a file that is not UTF-8 probably is: GB18030 has all of GBK and GB2312."""
    if data.startswith(UTF16):
        return "UTF-16"
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    return "GB18030"


def _questions(file: Path, reader: "csv.DictReader[str]") -> Iterator[Question]:
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or COLUMNS)]
    if missing:
        raise EvalError(
            f"{file}: columns are missing",
            got=f"no {', '.join(missing)} in its first line",
            allowed=f"columns {', '.join(COLUMNS)}",
            next_step="take the published files",
        )
    for number, row in enumerate(reader):
        yield _question(file, number, row)


def _question(file: Path, number: int, row: Mapping[str | None, object]) -> Question:
    cells = [row.get(column) for column in COLUMNS]
    if None in row or None in cells:
        raise EvalError(
            f"{file}, question {number}: too {'many' if None in row else 'few'} cells",
            got=f"question {str(cells[0])[:40]!r}",
            allowed="a cell for each column; one that has a comma stands in double quotes",
        )
    text, *choices, answer = map(str, cells)
    if answer not in LETTERS:
        raise EvalError(
            f"{file}, question {number}: not a question with four choices and its answer",
            got=f"answer {answer[:40]!r}",
            allowed=f"columns {', '.join(COLUMNS)}, with an answer from A to D",
            next_step="take the published files; test files have no answers",
        )
    return Question(id=number, text=text, choices=tuple(choices), answer=answer)
