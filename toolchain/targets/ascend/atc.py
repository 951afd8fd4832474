"""Runs ATC: its lines as they come, a log per graph, and what a failure means."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runtime.errors import UserError
from runtime.progress import Progress
from toolchain.errors import TargetError

__all__ = ["CAUSES", "find_om", "run_atc"]

SUCCESS = "ATC run success"
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # by itself, or below a shell
CODE = re.compile(r"\b[EW][A-Z]?\d{4,5}\b")
MAX_QUOTED = 300  # characters of ATC's own message
POLL_SECONDS = 0.2

NO_MEMORY = (
    "ATC ran out of memory: set TE_PARALLEL_COMPILER=1 MAX_COMPILE_CORE_NUMBER=1, add swap, "
    "or compile on a larger machine"
)
# The first error code that ATC prints, or words of its output, the first that matches -> what it
# means and what to do.
CAUSES: tuple[tuple[str, str], ...] = (
    (r"bad_alloc|[Oo]ut of memory|Cannot allocate memory", NO_MEMORY),
    (r"No space left on device", "the disk is full: ATC writes every graph's weights anew"),
    (
        r"E16002|E19010|E13010",
        "an operator of the graph is not registered with this CANN at opset 17; install CANN 8.5 "
        "or newer, or disable the pass that makes it with --without",
    ),
    (
        r"E10501",
        "the operators are not found: source set_env.sh, which sets ASCEND_OPP_PATH",
    ),
    (r"E13023", "a part of the OM is too large; report it with the log"),
    (
        r"E10\d{3}|unknown command line flag",
        "this CANN does not take an option; its reason is in the log, and `atc --help` says what "
        "it takes",
    ),
    (
        r"E40\d{3}|No supported (AI Core|Op)|op_impl.*not (found|exist)",
        "a kernel cannot be compiled: is the ops package of the chip beside the toolkit? "
        "`toolchain doctor` names it",
    ),
    (r"E19999", "an error inside ATC; report it with the log and ~/ascend/log"),
)


def run_atc(
    atc: Path,
    options: Sequence[str],
    environment: Mapping[str, str],
    name: str,
    log: Path,
    work: Path,
    progress: Progress,
) -> None:
    """Runs ATC to its end.

    Args:
        atc: the program.
        options: its options.
        environment: its environment.
        name: of the graph, for messages.
        log: file that all it prints goes to, after the command.
        work: directory that it may litter, on the file system of the output: it writes weights
            there and renames them.
        progress: told its lines.

    Raises:
        TargetError: it failed; says the error, its meaning and where the log is.
        UserError: the log cannot be written.
    """
    command = [str(atc), *options]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"$ {shlex.join(command)}\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write the log {log}", got=error.strerror, next_step="choose another -o"
        ) from error
    head = log.stat().st_size
    with log.open("a") as stream:
        # In a session of its own, so that the wrapper's children end with it; into a file, since
        # a child that outlives it would hold a pipe open.
        process = subprocess.Popen(
            command,
            env={**environment, "ASCEND_WORK_PATH": str(work)},
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for line in _lines_until_end(process, log, head):
            if line.strip(" ."):
                progress.step(f"atc {name}: {line.strip()}"[:120])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    output = log.read_bytes()[head:].decode(errors="replace")
    if process.returncode != 0 or SUCCESS not in output:
        raise TargetError(
            f"atc failed on {name}",
            got=_what_it_said(process.returncode, output),
            next_step=f"{_cause(process.returncode, output)}; the log is {log}",
        )


def _lines_until_end(process: subprocess.Popen[bytes], log: Path, start: int) -> Iterator[str]:
    """What is added to the log, line by line, as long as the program runs."""
    left = ""
    with log.open("rb") as stream:
        stream.seek(start)
        running = True
        while running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
                running = False
            *lines, left = (left + stream.read().decode(errors="replace")).split("\n")
            yield from lines
    yield left


def find_om(output: Path) -> Path:
    """The OM that ATC wrote: X.om, or X_<os>_<cpu>.om where it holds code for the host.

    Raises:
        TargetError: none, although ATC said that it succeeded, or an empty one.
    """
    found = sorted(
        [*output.parent.glob(f"{output.name}.om"), *output.parent.glob(f"{output.name}_linux_*.om")]
    )
    if not found or found[0].stat().st_size == 0:
        raise TargetError(
            f"atc said that it succeeded, but there is no {output.name}.om",
            got="an empty file" if found else "nothing",
            next_step="look at the log, and whether the disk is full",
        )
    return found[0]


def _first_code(output: str) -> str | None:
    """The first line with an error code: a traceback behind it may hold others."""
    return next((line.strip() for line in output.splitlines() if CODE.search(line)), None)


def _what_it_said(code: int, output: str) -> str:
    """The first line with an error code, or the last line, and how it ended."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = _first_code(output) or (lines[-1] if lines else "no output")
    ended = "killed" if code in KILLED else f"exit code {code}"
    return f"{ended}: {said}"[:MAX_QUOTED]


def _cause(code: int, output: str) -> str:
    if code in KILLED:  # the kernel's answer to a lack of memory
        return NO_MEMORY
    # A code says more than words that may be part of a path.
    searched = _first_code(output) or output
    for pattern, meaning in CAUSES:
        if re.search(pattern, searched):
            return meaning
    return "this error is not in our table; report it with the log"
