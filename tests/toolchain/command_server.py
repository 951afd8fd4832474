"""Runs of the command line that begin at once: forks of a process that has imported everything.

So a kill at a random moment meets work and not the import of torch. As a program it takes one job
a line on stdin, and tells the id of the process and how it ended.
"""

import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Arguments of `toolchain`, and what befalls it.

    change, number: before that change to the disk it sends itself that signal; 0 for never. Changes
        are what names .bundle.partial-*, and any removal.
    max_file_bytes: no file gets larger, as on a full disk; 0 for no limit.
    """

    arguments: list[str]
    change: int = 0
    number: int = 0
    max_file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CommandServer:
    """The test's end."""

    process: subprocess.Popen[str]
    directory: Path  # of what a run prints

    def run(self, job: Job) -> int:
        """Returns the exit code, below 0 for a signal."""
        self._start(job)
        return int(self._line())

    def run_and_kill(self, job: Job, number: signal.Signals, seconds: float) -> None:
        """Sends it a signal unless it has ended by then."""
        pid = self._start(job)
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            os.kill(pid, number)
        self._line()

    @property
    def changes(self) -> list[str]:
        """Changes to the disk that the last run has made, in order."""
        return (self.directory / "changes").read_text().split()

    @property
    def errors(self) -> list[str]:
        """Lines that the last run wrote to stderr."""
        return (self.directory / "stderr").read_text().splitlines()

    def _start(self, job: Job) -> int:
        assert self.process.stdin is not None
        print(json.dumps(asdict(job)), file=self.process.stdin, flush=True)
        return int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@contextmanager
def command_server(directory: Path) -> Iterator[CommandServer]:
    """Starts one, whose runs print into a directory."""
    command = [sys.executable, "-m", "tests.toolchain.command_server", str(directory)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        text=True,
        bufsize=1,
        # A fork has none of the threads that torch would count on.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        yield CommandServer(process, directory)


def serve(directory: Path, jobs: IO[str]) -> None:
    warm_up()
    for line in jobs:
        pid = os.fork()
        if pid == 0:
            work(Job(**json.loads(line)), directory)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def warm_up() -> None:
    """Imports what export and compile do, some of it where torch needs it first."""
    from export.trace import trace
    from runtime.bundle.manifest import GraphSpec
    from tests.models import TINY

    trace(TINY, GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=4))


def work(job: Job, directory: Path) -> None:
    """Becomes the command line."""
    from toolchain.cli import main

    for fd, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
    changes = os.open(directory / "changes", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    numbers = count(1)

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        writes = event in ("open", "os.mkdir", "os.rename") and ".bundle." in str(arguments)
        if writes or event in ("os.remove", "os.rmdir"):
            if next(numbers) == job.change:
                os.kill(os.getpid(), job.number)
            os.write(changes, f"{event}\n".encode())

    sys.addaudithook(watch)
    if job.max_file_bytes:
        # Of a .pyc Python would write the part that fits, and take it for the whole.
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.max_file_bytes,) * 2)
    sys.stdin = io.TextIOWrapper(io.BytesIO())  # the other is the server's
    sys.argv = ["toolchain", *job.arguments]
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.stdin)
