"""Claims about files of results: complete, replaced and never opened, refused before the work."""

import errno
import os
from pathlib import Path

import pytest

from runtime.errors import UserError
from runtime.result_files import require_directory, require_file, write_file, write_named


def test_a_file_is_written_and_nothing_else_stays(tmp_path: Path) -> None:
    write_file(tmp_path / "a.json", "一")
    write_file(tmp_path / "a.json", b"two")
    assert (tmp_path / "a.json").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a.json").symlink_to(victim)
    write_file(tmp_path / "a.json", "ours")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "a.json").is_symlink()


def test_work_files_have_names_that_nobody_knows_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        used.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    for _ in range(20):
        write_file(tmp_path / "a.json", "")
    assert len(set(used)) == 20
    assert all(name.startswith(".") for name in used)


def test_a_file_that_the_user_names_may_be_a_link_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "elsewhere" / "real.json")
    require_file(link)
    write_named(link, "text")
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "real.json").read_text() == "text"
    reader, writer = os.pipe()
    write_named(Path(f"/dev/fd/{writer}"), "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    os.close(writer)
    require_file(Path("/dev/null"))
    write_named(Path("/dev/null"), "gone")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no/such/a.json", "no directory"),
        ("file/a.json", "no directory"),
        ("directory", "a directory"),
        ("x" * 300 + "/a.json", "file name too long"),
        ("x" * 300, "file name too long"),
    ],
)
def test_what_cannot_be_a_file_is_refused_before_the_work(
    name: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    with pytest.raises(UserError, match=f"cannot write .*; got {reason}"):
        require_file(tmp_path / name)


def test_trying_leaves_nothing(tmp_path: Path) -> None:
    require_file(tmp_path / "a.json")
    require_directory(tmp_path / "b" / "c")
    assert [path.name for path in tmp_path.rglob("*")] == ["b", "c"]


@pytest.mark.parametrize("name", ["file", "file/b", "/proc/nosuch", "/dev/null"])
def test_what_cannot_be_a_directory_is_refused_before_the_work(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write "):
        require_directory(tmp_path / name)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "no space left on device; free some room"),
        (errno.EDQUOT, "disk quota exceeded; the quota of this user"),
        (errno.EACCES, "permission denied; give this user the right"),
        (errno.EROFS, "read-only file system; choose another place"),
        (errno.EIO, "input/output error; choose another place"),
    ],
)
def test_what_the_system_refuses_is_named_as_what_it_is_and_the_old_file_stays(
    code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses when the bytes reach the disk."""
    file = tmp_path / "a.json"
    write_file(file, "old")

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    for write in (write_file, write_named):
        with pytest.raises(UserError, match=f"cannot write .*a.json; got {words}"):
            write(file, "new")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_an_interruption_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.json"
    write_file(file, "old")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(file, "new")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
