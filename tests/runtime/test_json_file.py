"""Claims about runtime.json_file: what others wrote is read in one way, or refused in one line."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import BundleError
from runtime.json_file import parse_json, problem, read_file, read_json, read_object

SCALARS = st.none() | st.booleans() | st.integers(-(10**90), 10**90) | st.text()
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | FINITE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def refusal(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        parse_json(data, "some.json", BundleError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(VALUES, st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_what_python_writes_is_read_back_with_or_without_a_byte_order_mark(
    value: object, mark: bytes
) -> None:
    for ascii_only in (True, False):
        data = mark + json.dumps(value, ensure_ascii=ascii_only).encode()
        assert parse_json(data, "some.json", BundleError) == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "property name"),
        (b"{} {}", "Extra data"),
        (b"\xff\xfe{\x00}\x00", "codec can't decode"),
        ('"语"'.encode("gbk"), "codec can't decode"),
        (b'{"a": NaN}', "nan is no number"),
        (b"[Infinity]", "inf is no number"),
        (b"[-Infinity]", "-inf is no number"),
        (b"1e999", "inf is no number"),
        (b"[" + b"9" * 101 + b"]", "more than 100 digits"),
        (b"-" + b"9" * 5000, "limit"),
        (b'{"a": 1, "b": 2, "a": 1}', "'a' stands twice"),
        (b'[{"x": {"a": 1, "a": 2}}]', "'a' stands twice"),
        (b'"\\ud800"', "'\\ud800' is not valid Unicode"),
        (b'{"\\udfff": 1}', "is not valid Unicode"),
        (b"[" * 66 + b"]" * 66, "nested deeper than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 64"),
        (b'{"a":' * 100_000, "nested deeper than 64"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_two_readers_could_read_in_two_ways_is_refused_by_name(
    data: bytes, reason: str
) -> None:
    message = refusal(data)
    assert message.startswith("some.json is not JSON: ")
    assert reason in message
    assert len(message) < 200


@pytest.mark.parametrize("value", [1, 10**99, -1.5, "a", [], {}, [[{}]], 10**30])
def test_ordinary_values_are_no_problem(value: object) -> None:
    assert problem(value) is None


def test_depth_is_counted_and_not_the_number_of_values() -> None:
    deep: object = 1
    for _ in range(64):
        deep = [deep]
    assert problem(deep) is None
    assert problem([deep]) == "nested deeper than 64 levels"
    assert problem([[]] * 100_000) is None


def test_a_file_that_cannot_be_read_is_named_with_what_it_is(tmp_path: Path) -> None:
    missing, link, pipe, large = (tmp_path / name for name in ("missing", "link", "pipe", "large"))
    link.symlink_to("nowhere")
    (device := tmp_path / "device").symlink_to("/dev/zero")
    os.mkfifo(pipe)  # reading it would wait for ever
    large.write_bytes(b" " * 11)
    said = {
        missing: "is missing or no regular file",
        link: "is a link to nowhere",
        pipe: "is missing or no regular file",
        device: "is missing or no regular file",
        tmp_path: "is missing or no regular file",
        large: "is too large; allowed: up to 10 bytes",
    }
    for file, reason in said.items():
        with pytest.raises(BundleError, match=f"^{file} {reason}"):
            read_file(file, BundleError, max_bytes=10)


def test_a_pointer_of_git_lfs_is_named_as_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    with pytest.raises(BundleError, match=r"is a git-lfs pointer.*git lfs pull"):
        read_json(file, BundleError)


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("3", "int"), ("null", "NoneType")])
def test_an_object_is_asked_for_by_name(tmp_path: Path, text: str, kind: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(BundleError, match=f"{file} is not a JSON object; got {kind}"):
        read_object(file, BundleError)
