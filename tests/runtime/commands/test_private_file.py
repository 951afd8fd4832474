"""Claims about private files: for their owner alone, whole, and never written through a link."""

import os
import stat
from pathlib import Path

import pytest

from runtime.commands.private_file import write_private
from runtime.errors import UserError


def test_a_file_is_for_its_owner_alone_whatever_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o644)
    before = os.umask(0)
    try:
        write_private(file, b"new")
    finally:
        os.umask(before)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("target", ["target", "nowhere"])
def test_a_link_is_refused_and_what_it_leads_to_is_left_alone(target: str, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(UserError, match=r"link is a link; allowed: a file itself"):
        write_private(link, b"new")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no/file", "no such file or directory"),
        ("directory", "is a directory"),
        ("x" * 300, "file name too long"),
        ("a\0b", "embedded null"),
    ],
)
def test_what_cannot_be_written_is_named_and_nothing_is_left(
    name: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(UserError, match=rf"(?s)cannot write .*got {reason}"):
        write_private(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]
