"""Text as it is typed: UTF-8 first, the locale second, positions in what was typed."""

import locale

import pytest

from runtime.errors import PromptError
from runtime.text.typed import from_argument, from_bytes

QUESTION = "中国的首都是哪里？"


@pytest.mark.parametrize(
    "data",
    [
        QUESTION.encode(),
        b"\xef\xbb\xbf" + QUESTION.encode(),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_text(data: bytes) -> None:
    assert from_bytes(data, "the prompt") == QUESTION


def test_line_ends_of_windows_become_line_feeds() -> None:
    assert from_bytes(b"one\r\ntwo\r\n\rthree", "the prompt") == "one\ntwo\n\rthree"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("你好".encode() + b"\xff" + "世界".encode(), "got byte 0xff at character 2;"),
        (b"ab\xc3", "got byte 0xc3 at character 2;"),
        (QUESTION.encode("gbk"), r"not UTF-8 \(GBK\?\); got byte 0xd6 at character 0;"),
    ],
)
@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1", "ANSI_X3.4-1968"])
def test_bytes_that_are_no_text_are_told_where_they_are(
    data: bytes, says: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locale, "getencoding", lambda: encoding)
    with pytest.raises(PromptError, match=says):
        from_bytes(data, "the prompt")


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "big5"])
def test_the_encoding_of_a_chinese_locale_comes_second(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locale, "getencoding", lambda: encoding)
    text = "中文的問題" if encoding == "big5" else QUESTION
    assert from_bytes(text.encode(encoding), "the prompt") == text
    assert from_bytes(text.encode(), "the prompt") == text


def test_an_argument_is_read_from_the_bytes_of_the_shell() -> None:
    assert from_argument(QUESTION, "the prompt") == QUESTION
    with pytest.raises(PromptError, match="--system is not UTF-8; got byte 0xe9 at character 3"):
        from_argument("caf\udce9!", "--system")
