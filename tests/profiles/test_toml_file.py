"""Claims about profiles.toml_file: TOML is read with the limits of JSON, in little memory."""

import resource
from pathlib import Path

import pytest

from profiles import ProfileError
from profiles.toml_file import parse_toml, read_toml


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_toml_is_read_with_or_without_a_byte_order_mark(mark: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(mark + 'x = 1\ny = ["语", 1.5]\n[z]\nw = true\n'.encode())
    assert read_toml(file, ProfileError) == {"x": 1, "y": ["语", 1.5], "z": {"w": True}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = inf", "inf is no number"),
        ("x = [-inf]", "-inf is no number"),
        ("x = nan", "nan is no number"),
        ("x = 1e999", "inf is no number"),
        ("x = " + "9" * 101, "more than 100 digits"),
        ("x = " + "9" * 5000, "limit"),
        ("x = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("x = " + "[" * 100 + "]" * 100, "nested deeper than 64 levels"),
        (".".join("a" * 900) + " = 1", "nested deeper than 64 levels"),
        ("x = " + "{a=" * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ("x = 1\nx = 2", "Cannot overwrite a value"),
        ("x = '" + "a" * (1 << 18) + "'", "is too large"),
        ("x = ", "Invalid value"),
    ],
    ids=lambda text: text[:20],
)
def test_what_has_no_good_meaning_is_refused_in_one_line(
    text: str, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(ProfileError) as caught:
        read_toml(file, ProfileError)
    assert str(caught.value).startswith(str(file))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dotted_key_does_not_take_the_square_of_its_length_in_memory() -> None:
    """200 KB of `a.a.a...` took 40 GB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for text in (".".join("a" * 100_000) + " = 1", "[" + ".".join("a" * 100_000) + "]"):
        with pytest.raises(ProfileError, match="nested too deeply"):
            parse_toml(text.encode(), "a.toml", ProfileError)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # KB
