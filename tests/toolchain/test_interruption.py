"""An export or compile that is killed leaves the old bundle or the new; the next one succeeds."""

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import load_bundle

COMMAND = "from toolchain.cli import main; main()"

# The command line, which lists its changes to the disk on stdout and sends itself a signal just
# before the n-th: what concerns .bundle.partial or .bundle.replaced, and whatever is removed.
WATCHED = f"""
import itertools, os, sys

moment, number = int(sys.argv.pop(1)), int(sys.argv.pop(1))
count = itertools.count(1)

def watch(event, arguments):
    if event in ("open", "os.mkdir", "os.rename") and ".bundle." in str(arguments) or event in (
        "os.remove", "os.rmdir"
    ):
        if next(count) == moment:
            os.kill(os.getpid(), number)
        print(event, flush=True)

sys.addaudithook(watch)
{COMMAND}
"""

# The command line on a disk that takes no file above 100 kB. No bytecode is written, since Python
# would take what fits for the whole.
FULL_DISK = f"""
import resource, sys

sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
{COMMAND}
"""

NUM_KILLS = {"export": 5, "compile": 10}  # by each signal; an export takes seconds to start

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
        return [
            *(sys.executable, "-c", program, *map(str, options)),
            *(*self.arguments, "-o", str(output)),
        ]

    def between_the_renames(self) -> int:
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
    return file_hashes(output if output.exists() else output.with_name(".bundle.replaced"))


def kill_at_time(run: Undisturbed, output: Path, number: signal.Signals, share: float) -> None:
    process = subprocess.Popen(run.command(output), stderr=subprocess.DEVNULL)
    try:
        process.wait(share * run.seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        process.wait()


def kill_at_change(run: Undisturbed, output: Path, number: signal.Signals, moment: int) -> None:
    command = run.command(output, WATCHED, moment, number)
    subprocess.run(command, check=False, capture_output=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("command", ["export", "compile"])
def test_a_run_killed_at_a_random_moment_leaves_the_old_bundle_or_the_new(
    command: str, number: signal.Signals, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    """Every other time at any moment of the run, else while it writes."""
    run, output, random = undisturbed[command], tmp_path / "bundle", np.random.default_rng(number)
    for i in range(NUM_KILLS[command]):
        if output.exists():
            shutil.rmtree(output)
        replacing = i >= NUM_KILLS[command] // 2
        if replacing and held(output) != run.old_files:
            shutil.copytree(run.old, output)
        if i % 2:
            kill_at_time(run, output, number, random.uniform())
        else:
            kill_at_change(run, output, number, random.integers(len(run.changes)) + 1)
        assert held(output) in (run.old_files if replacing else {}, run.new_files)
        if number == signal.SIGTERM:
            assert list(tmp_path.iterdir()) in ([], [output])
    subprocess.run(run.command(output), check=True, capture_output=True)
    assert held(output) == run.new_files
    assert list(tmp_path.iterdir()) == [output]


def test_a_compile_killed_between_the_renames_is_made_good_by_the_next(
    undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    run, output = undisturbed["compile"], tmp_path / "bundle"
    shutil.copytree(run.old, output)
    kill_at_change(run, output, signal.SIGKILL, run.between_the_renames())
    assert not output.exists()
    assert file_hashes(tmp_path / ".bundle.replaced") == run.old_files
    assert file_hashes(tmp_path / ".bundle.partial") == run.new_files
    # The next one is stopped too, by a signal that lets it put the old bundle back.
    kill_at_change(run, output, signal.SIGTERM, len(run.changes) // 2)
    assert list(tmp_path.iterdir()) == [output]
    assert file_hashes(output) == run.old_files
