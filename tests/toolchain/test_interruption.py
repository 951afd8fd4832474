"""An export or compile that is killed leaves the old bundle or the new; the next one succeeds."""

import hashlib
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.bundle.reader import load_bundle
from tests.paths import DATA
from tests.toolchain.command_server import CommandServer, Job, command_server

NUM_KILLS = {"export": 6, "compile": 11}  # with each signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """A run that replaced an older bundle and was left alone."""

    arguments: list[str]
    seconds: float
    changes: list[str]
    old: Path
    old_files: dict[str, str]
    new_files: dict[str, str]

    def job(self, output: Path, **befalls: int) -> Job:
        return Job(arguments=[*self.arguments, "-o", str(output)], **befalls)

    @property
    def second_rename(self) -> int:
        """Number of the change that puts the new bundle where the old one was."""
        return self.changes.index("os.rename") + 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    with command_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(
    server: CommandServer,
    bundles: Path,
    miniature_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Undisturbed]:
    directory = tmp_path_factory.mktemp("undisturbed")
    exported, compiled = directory / "exported" / "bundle", directory / "compiled" / "bundle"
    export = ["export", str(miniature_dir), "--profile", str(DATA / "two.toml")]
    compile = ["compile", str(exported)]
    return {
        "export": run_undisturbed(server, export, bundles / "small-exported", exported),
        "compile": run_undisturbed(server, compile, bundles / "small-fp32", compiled),
    }


def run_undisturbed(
    server: CommandServer, arguments: list[str], old: Path, output: Path
) -> Undisturbed:
    shutil.copytree(old, output)
    started = time.monotonic()
    assert server.run(Job(arguments=[*arguments, "-o", str(output)])) == 0, server.errors
    load_bundle(output)
    return Undisturbed(
        arguments=arguments,
        seconds=time.monotonic() - started,
        changes=server.changes,
        old=old,
        old_files=file_hashes(old),
        new_files=file_hashes(output),
    )


def file_hashes(directory: Path) -> dict[str, str]:
    return {
        file.relative_to(directory).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in directory.rglob("*")
        if file.is_file()
    }


def held(output: Path) -> dict[str, str]:
    """The bundle at the output, or between the two renames the one that waits beside it."""
    waiting = output.parent.glob(".bundle.partial-*/old")
    return file_hashes(output if output.exists() else next(waiting, output))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("command", ["export", "compile"])
def test_a_run_killed_at_a_random_moment_leaves_the_old_bundle_or_the_new(
    command: str,
    number: signal.Signals,
    server: CommandServer,
    undisturbed: dict[str, Undisturbed],
    tmp_path: Path,
) -> None:
    """First where there is nothing, then in place of an older bundle; each clears up for the next.

    Every other kill comes at any time, the others, and the last, between two changes to the disk.
    """
    run, output, rng = undisturbed[command], tmp_path / "bundle", random.Random(number)
    for i in range(NUM_KILLS[command]):
        replacing = i >= NUM_KILLS[command] // 2
        if output.exists():
            shutil.rmtree(output)
        if replacing and held(output) != run.old_files:
            shutil.copytree(run.old, output)
        if (NUM_KILLS[command] - i) % 2:
            last = len(run.changes) if replacing else run.changes.index("os.rename") + 1
            server.run(run.job(output, change=rng.randint(1, last), number=number))
        else:
            server.run_and_kill(run.job(output), number, rng.uniform(0, run.seconds))
        assert held(output) in (run.old_files if replacing else {}, run.new_files)
        if number == signal.SIGTERM:
            assert list(tmp_path.iterdir()) in ([], [output])
    assert server.run(run.job(output)) == 0
    assert held(output) == run.new_files
    assert list(tmp_path.iterdir()) == [output]


def test_the_old_bundle_waits_beside_between_the_renames_until_the_next_run(
    server: CommandServer, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    run, output = undisturbed["compile"], tmp_path / "bundle"
    shutil.copytree(run.old, output)
    killed = run.job(output, change=run.second_rename, number=signal.SIGKILL)
    assert server.run(killed) == -signal.SIGKILL
    assert not output.exists()
    [left] = tmp_path.glob(".bundle.partial-*")
    assert file_hashes(left / "old") == run.old_files
    assert file_hashes(left / "new") == run.new_files
    # The next one is stopped too, in time to put back what it found.
    ended = run.job(output, change=run.second_rename, number=signal.SIGTERM)
    assert server.run(ended) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == [output]
    assert file_hashes(output) == run.old_files


def test_sigterm_leaves_only_the_output_however_early_or_late(
    server: CommandServer, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    """It once left the work while that was made ready, and the old bundle from the renames on."""
    run, output = undisturbed["compile"], tmp_path / "bundle"
    early, late = (2, 3, 4), (run.second_rename, run.second_rename + 1, len(run.changes))
    for change in (*early, *late):
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(run.old, output)
        ended = run.job(output, change=change, number=signal.SIGTERM)
        assert server.run(ended) == 128 + signal.SIGTERM
        assert list(tmp_path.iterdir()) == [output]
        assert held(output) == (run.new_files if change > run.second_rename else run.old_files)


@pytest.mark.parametrize("command", ["export", "compile"])
def test_a_full_disk_is_an_error_in_one_line_that_keeps_the_old_bundle(
    command: str, server: CommandServer, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    run, output = undisturbed[command], tmp_path / "bundle"
    shutil.copytree(run.old, output)
    assert server.run(run.job(output, max_file_bytes=100_000)) == 1
    assert server.errors[-1].startswith("error: file too large; raise the limit with ulimit -f")
    assert not any("Traceback" in line for line in server.errors)
    assert list(tmp_path.iterdir()) == [output]
    assert held(output) == run.old_files
