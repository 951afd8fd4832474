"""An export or compile that is killed leaves the old bundle or the new; the next one succeeds."""

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.bundle.reader import load_bundle

COMMAND = "from toolchain.cli import main; main()"

# The command line, which lists its changes to the disk on stdout and sends itself a signal just
# before one of them. A change is what names .bundle.partial-*, and any removal.
WATCHED = """
import itertools, os, sys

change, number = int(sys.argv.pop(1)), int(sys.argv.pop(1))
changes = itertools.count(1)

def watch(event, arguments):
    writes = event in ("open", "os.mkdir", "os.rename") and ".bundle." in str(arguments)
    if writes or event in ("os.remove", "os.rmdir"):
        if next(changes) == change:
            os.kill(os.getpid(), number)
        os.write(sys.stdout.fileno(), f"{event}\\n".encode())

sys.addaudithook(watch)
from toolchain.cli import main; main()
"""

# The command line on a disk that takes no file above 100 kB; without bytecode, since Python would
# take the part of a .pyc that fits for the whole.
FULL_DISK = """
import resource, sys

sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from toolchain.cli import main; main()
"""

NUM_KILLS = {"export": 4, "compile": 11}  # with each signal; an export takes seconds to start

PROFILE = """
name = "two"
description = "no more graphs than a session needs"
target = "cpu"
weights = "int8"
graphs = [
  { phase = "prefill", batch_size = 1, seq_len = 4, cache_len = 8 },
  { phase = "decode", batch_size = 1, seq_len = 1, cache_len = 8 },
]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """A run that replaced an older bundle and was left alone."""

    arguments: list[str]
    seconds: float
    changes: list[str]
    old: Path
    old_files: dict[str, str]
    new_files: dict[str, str]

    def command(self, output: Path, program: str = COMMAND, *options: int) -> list[str]:
        python = [sys.executable, "-c", program, *map(str, options)]
        return [*python, *self.arguments, "-o", str(output)]

    @property
    def second_rename(self) -> int:
        """Number of the change that puts the new bundle where the old one was."""
        return self.changes.index("os.rename") + 2


@pytest.fixture(scope="module")
def undisturbed(
    bundles: Path, miniature_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Undisturbed]:
    directory = tmp_path_factory.mktemp("undisturbed")
    (directory / "two.toml").write_text(PROFILE)
    exported, compiled = directory / "exported" / "bundle", directory / "compiled" / "bundle"
    export = ["export", str(miniature_dir), "--profile", str(directory / "two.toml")]
    return {
        "export": run_undisturbed(export, bundles / "small-exported", exported),
        "compile": run_undisturbed(["compile", str(exported)], bundles / "small-fp32", compiled),
    }


def run_undisturbed(arguments: list[str], old: Path, output: Path) -> Undisturbed:
    shutil.copytree(old, output)
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", WATCHED, "0", "0", *arguments, "-o", str(output)],
        check=True,
        capture_output=True,
        text=True,
    )
    load_bundle(output)
    return Undisturbed(
        arguments=arguments,
        seconds=time.monotonic() - started,
        changes=result.stdout.split(),
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


def kill_at_time(run: Undisturbed, output: Path, number: signal.Signals, seconds: float) -> None:
    process = subprocess.Popen(run.command(output), stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        process.wait()


def kill_before_change(run: Undisturbed, output: Path, number: signal.Signals, change: int) -> None:
    command = run.command(output, WATCHED, change, number)
    subprocess.run(command, check=False, capture_output=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("command", ["export", "compile"])
def test_a_run_killed_at_a_random_moment_leaves_the_old_bundle_or_the_new(
    command: str, number: signal.Signals, undisturbed: dict[str, Undisturbed], tmp_path: Path
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
            kill_before_change(run, output, number, rng.randint(1, last))
        else:
            kill_at_time(run, output, number, rng.uniform(0, run.seconds))
        assert held(output) in (run.old_files if replacing else {}, run.new_files)
        if number == signal.SIGTERM:
            assert list(tmp_path.iterdir()) in ([], [output])
    subprocess.run(run.command(output), check=True, capture_output=True)
    assert held(output) == run.new_files
    assert list(tmp_path.iterdir()) == [output]


def test_the_old_bundle_waits_beside_between_the_renames_until_the_next_run(
    undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    run, output = undisturbed["compile"], tmp_path / "bundle"
    shutil.copytree(run.old, output)
    kill_before_change(run, output, signal.SIGKILL, run.second_rename)
    assert not output.exists()
    [left] = tmp_path.glob(".bundle.partial-*")
    assert file_hashes(left / "old") == run.old_files
    assert file_hashes(left / "new") == run.new_files
    # The next one is stopped too, in time to put back what it found.
    kill_before_change(run, output, signal.SIGTERM, run.second_rename)
    assert list(tmp_path.iterdir()) == [output]
    assert file_hashes(output) == run.old_files


def test_sigterm_leaves_only_the_output_however_early_or_late(
    undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    """It once left the work while that was made ready, and the old bundle from the renames on."""
    run, output = undisturbed["compile"], tmp_path / "bundle"
    early, late = (2, 3, 4), (run.second_rename, run.second_rename + 1, len(run.changes))
    for change in (*early, *late):
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(run.old, output)
        kill_before_change(run, output, signal.SIGTERM, change)
        assert list(tmp_path.iterdir()) == [output]
        assert held(output) == (run.new_files if change > run.second_rename else run.old_files)


@pytest.mark.parametrize("command", ["export", "compile"])
def test_a_full_disk_is_an_error_in_one_line_that_keeps_the_old_bundle(
    command: str, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    run, output = undisturbed[command], tmp_path / "bundle"
    shutil.copytree(run.old, output)
    result = subprocess.run(
        run.command(output, FULL_DISK), check=False, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1] == "error: file too large"
    assert list(tmp_path.iterdir()) == [output]
    assert held(output) == run.old_files
