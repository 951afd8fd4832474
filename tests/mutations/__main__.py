"""Forks a run for each mutant, and prints those that end badly.

`python -m tests.mutations KIND COUNT SEED BUNDLES DIRECTORY`. A run ends well with a result or with
one line of error, in bounded time and memory.
"""

import io
import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from runtime.bundle.reader import digest_line
from tests.mutations.kinds import KINDS
from tests.paths import DATA

SECONDS = 10  # of processor time for one run
BYTES = 6 << 30  # of addresses; torch and ONNX Runtime map 2 GB of them


def bounded(run: Callable[[Path], None], directory: Path) -> None:
    """In the child: runs with what it prints in files, and ends."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        file = directory.with_suffix(f".{name}")
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    code = 0
    try:
        run(directory)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def complaint(code: int, directory: Path) -> str | None:
    """What is wrong with how a run has ended; None for a result or one line of error."""
    said = directory.with_suffix(".stderr").read_text(errors="replace")
    lines = said.splitlines()
    if code == 0 and "Traceback" not in said:
        return None
    if code == 1 and lines and lines[-1].startswith("error: ") and "Traceback" not in said:
        return None
    return f"exit {code}: {said[-400:] or 'silent'}"


def main() -> None:
    """Forks a run for each mutant."""
    name, count, seed, bundles, work = sys.argv[1:]
    kind, directory = KINDS[name], Path(work)
    original = (DATA if kind.source.endswith(".toml") else Path(bundles)) / kind.source
    data = original.read_bytes()
    for number in range(int(count)):
        rng = random.Random(f"{name} {seed} {number}")
        mutant = directory / f"{name}-{seed}-{number}"
        if kind.copy is None:
            mutant.mkdir(parents=True)
        else:
            shutil.copytree(Path(bundles) / kind.copy, mutant, copy_function=os.link)
        changed = kind.mutate(data, rng)
        (mutant / kind.place).unlink(missing_ok=True)
        (mutant / kind.place).write_bytes(changed)
        if kind.place == "manifest.json":
            (mutant / "manifest.sha256").unlink()
            (mutant / "manifest.sha256").write_bytes(digest_line(changed))
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            bounded(kind.run, mutant)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found = complaint(code, mutant)
        if found is None:
            shutil.rmtree(mutant)
        else:
            print(f"{mutant}: {found}", flush=True)


if __name__ == "__main__":
    main()
