"""A file that was checked is hashed again as soon as the file system has seen it change."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.bundle.reader import load_bundle
from runtime.errors import BundleError
from tests.runtime.bundle.test_bundle import KINDS, alter, contents

ROUNDS = 2  # of each kind of alteration


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where lists go; files that were made just now may be on them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("runtime.bundle.checked_files.COARSEST", 0)
    (tmp_path / "cache/alpaca2-toolchain/checked").mkdir(parents=True)
    return tmp_path / "cache"


@pytest.fixture
def bundle(bundles: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundles / "small-fp32", tmp_path / "bundle")


def load(path: Path) -> None:
    load_bundle(path, trust_unchanged=True)


def the_list(cache: Path) -> Path:
    [file] = (cache / "alpaca2-toolchain" / "checked").iterdir()
    return file


def flip(file: Path) -> None:
    """A byte of a file, in place."""
    with file.open("r+b") as stream:
        byte = stream.read(1)[0]
        stream.seek(0)
        stream.write(bytes([byte ^ 1]))


def largest(bundle: Path) -> Path:
    return max((bundle / "graphs/weights").iterdir(), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("kind", KINDS)
def test_every_alteration_of_a_checked_bundle_is_refused(
    kind: str, bundle: Path, cache: Path
) -> None:
    pristine = contents(bundle)
    for seed in range(ROUNDS):
        load(bundle)
        load(bundle)  # from the list
        altered = alter(kind, bundle, random.Random(f"{kind} {seed}"))
        with pytest.raises(BundleError):
            load(bundle)
        for name in altered:
            (bundle / name).unlink(missing_ok=True)
            if name in pristine:
                (bundle / name).write_bytes(pristine[name])


def test_a_byte_that_is_altered_with_the_old_time_put_back_is_found(
    bundle: Path, cache: Path
) -> None:
    load(bundle)
    file = largest(bundle)
    before = file.stat()
    flip(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(BundleError, match="was altered"):
        load(bundle)


def test_the_list_alone_says_that_a_file_is_not_hashed(bundle: Path, cache: Path) -> None:
    """Somebody who can write the user's own list can make it trust an altered file: seen here to
    know that the list is what counts."""
    load(bundle)
    file = largest(bundle)
    flip(file)
    listed = json.loads(the_list(cache).read_text())
    status = file.stat()
    marks = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    listed["files"][file.relative_to(bundle).as_posix()] = marks
    the_list(cache).write_text(json.dumps(listed))
    load(bundle)
    with pytest.raises(BundleError, match="was altered"):
        load_bundle(bundle)

    the_list(cache).chmod(0o622)  # which others may have written
    with pytest.raises(BundleError, match="was altered"):
        load(bundle)


def of_another_manifest(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "digest": "0" * 64}))


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        of_another_manifest,
        lambda file: file.write_bytes(b"\xff{"),
        lambda file: file.write_text("[]"),
        lambda file: file.write_text('{"digest": 1, "files": []}'),
    ],
)
def test_a_list_that_is_none_of_this_bundle_does_not_count(
    spoil: Callable[[Path], object], bundle: Path, cache: Path
) -> None:
    load(bundle)
    good = the_list(cache).read_text()
    spoil(the_list(cache))
    load(bundle)
    assert the_list(cache).read_text() == good


def test_a_file_that_was_written_just_now_is_not_listed(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change in the same tick of the file system's clock would not be seen."""
    monkeypatch.setattr("runtime.bundle.checked_files.COARSEST", 10**12)
    load(bundle)
    assert not list((cache / "alpaca2-toolchain/checked").iterdir())


def test_without_a_place_for_lists_everything_is_checked_each_time(
    bundle: Path, cache: Path
) -> None:
    shutil.rmtree(cache)
    load(bundle)
    assert not cache.exists()
    flip(largest(bundle))
    with pytest.raises(BundleError, match="was altered"):
        load(bundle)
