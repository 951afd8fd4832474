"""Claims about addresses and keys: none in a command line, none in what is printed."""

from pathlib import Path

import pytest

from runtime.errors import ParameterError
from toolchain.remote.address import KEY_VARIABLE, read_address


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.mark.parametrize(
    "url",
    ["http://box:8000", "http://box:8000/", "http://box:8000/v1", "http://box:8000/v1/"],
)
def test_an_address_is_the_same_with_and_without_v1(url: str) -> None:
    address = read_address(url, None, 1)
    assert (address.root, address.headers) == ("http://box:8000", {})


@pytest.mark.parametrize(
    "url",
    ["", "box:8000", "ftp://box", "http://", "http://box:x", "http://box/?a=b", "http://box/#a"],
)
def test_what_is_no_address_is_named(url: str) -> None:
    with pytest.raises(ParameterError, match="no address of a server") as raised:
        read_address(url, None, 1)
    assert raised.value.param == "url"


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ParameterError, match="can be read by others") as raised:
        read_address("http://me:secret@box:8000", None, 1)
    assert "secret" not in str(raised.value)


def test_a_key_comes_from_the_file_else_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "of-the-environment")
    file = tmp_path / "key"
    file.write_text("# mine\n\n of-the-file \nanother\n")
    address = read_address("http://box", file, 1)
    assert address.headers == {"Authorization": "Bearer of-the-file"}
    assert "of-the-file" not in repr(address)
    other = read_address("http://box", None, 1)
    assert other.headers == {"Authorization": "Bearer of-the-environment"}


@pytest.mark.parametrize(
    ("text", "message"), [("\n# none\n", "has no key"), ("schlüssel", "printable ASCII")]
)
def test_a_file_without_a_usable_key_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ParameterError, match=message) as raised:
        read_address("http://box", file, 1)
    assert raised.value.param == "api_key_file"
