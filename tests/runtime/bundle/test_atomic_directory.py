"""Claims about where an output is made: nothing that this run did not make is touched."""

import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier

import pytest

from runtime.bundle.atomic_directory import AtomicDirectory
from runtime.bundle.work_directory import work_path
from runtime.errors import UserError


def make(path: Path, text: str) -> None:
    with AtomicDirectory(path) as place:
        (place.directory / "file").write_text(text)
        place.put()


def make_in_vain(path: Path) -> None:
    with suppress(ZeroDivisionError), AtomicDirectory(path) as place:
        (place.directory / "file").write_text("half")
        raise ZeroDivisionError


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """What a person would not like to lose."""
    (tmp_path / "mine/below").mkdir(parents=True)
    (tmp_path / "mine/below/file").write_text("mine")
    return tmp_path / "mine"


@pytest.mark.parametrize("name", [".out.partial", ".out.partial-a_killed", ".out.replaced"])
def test_a_link_in_the_way_is_neither_followed_nor_removed(
    name: str, output: Path, mine: Path
) -> None:
    """.out.partial was adopted whatever it was, and all that it led to deleted."""
    link = output.with_name(name)
    link.symlink_to(mine)
    make_in_vain(output)
    make(output, "new")
    assert (output / "file").read_text() == "new"
    assert (mine / "below/file").read_text() == "mine"
    assert link.is_symlink()


def test_links_that_a_killed_run_left_are_removed_and_not_followed(
    output: Path, mine: Path
) -> None:
    """ATC reads an exported bundle's weights through such links."""
    left = work_path(output, "a_killed")
    left.mkdir()
    (left / "weights").symlink_to(mine)
    make(output, "new")
    assert (mine / "below/file").read_text() == "mine"
    assert not left.exists()


@pytest.mark.parametrize(
    "name",
    [".out.partial", ".out.partial-short", ".out.partial-x.partial-a_killed", ".out.replaced"],
)
def test_what_only_looks_like_a_leftover_stays(name: str, output: Path) -> None:
    other = output.with_name(name)
    other.mkdir()
    (other / "file").write_text("mine")
    make(output, "new")
    assert (other / "file").read_text() == "mine"


def test_what_a_killed_run_was_replacing_comes_back_though_the_next_run_fails(output: Path) -> None:
    left = work_path(output, "a_killed")
    (left / "new").mkdir(parents=True)
    (left / "old").mkdir()
    (left / "old/file").write_text("old")
    make_in_vain(output)
    assert (output / "file").read_text() == "old"
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("round_", range(20))
def test_of_many_runs_that_begin_together_one_goes_on(round_: int, output: Path) -> None:
    (work_path(output, "a_killed") / "new").mkdir(parents=True)
    begin, end = Barrier(8), Barrier(8)

    def run(number: int) -> str | None:
        begin.wait()
        try:
            with AtomicDirectory(output) as place:
                (place.directory / "file").write_text(str(number))
                end.wait()
                place.put()
        except UserError as error:
            end.wait()
            return error.code
        return None

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(run, range(8)))
    assert sorted(map(str, codes)) == ["None", *["busy"] * 7]
    assert (output / "file").read_text() == str(codes.index(None))
    assert list(output.parent.iterdir()) == [output]


def test_what_is_made_is_for_its_user_alone_until_it_is_done(output: Path) -> None:
    output.mkdir()
    usual = stat.S_IMODE(output.stat().st_mode)
    with AtomicDirectory(output) as place:
        assert stat.S_IMODE(place.directory.parent.stat().st_mode) == 0o700
        place.put()
    assert stat.S_IMODE(output.stat().st_mode) == usual
