"""Runs ATC: its lines as they come, a log per graph, and what a failure means."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.bundle_writer import Report
from toolchain.errors import TargetError

__all__ = ["CAUSES", "find_om", "run_atc"]

SUCCESS = "ATC run success"
KILLED = -signal.SIGKILL
CODE = re.compile(r"\b[EW][A-Z]?\d{4,5}\b")
MAX_QUOTED = 300  # characters of ATC's own message

# In this order, the first that matches: pattern in ATC's output -> what it means and what to do.
CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"E16002|E19010|E13010",
        "an operator of the graph is not registered with this CANN at opset 17; install CANN 8.5 "
        "or newer, or leave the rewrite that makes it out with --without",
    ),
    (
        r"E10501",
        "the operators are not found: source set_env.sh, which sets ASCEND_OPP_PATH",
    ),
    (
        r"bad_alloc|[Oo]ut of memory|Cannot allocate memory",
        "ATC ran out of memory: set TE_PARALLEL_COMPILER=1 MAX_COMPILE_CORE_NUMBER=1, add swap, "
        "or compile on a larger machine",
    ),
    (
        r"E10\d{3}|unknown command line flag",
        "this CANN does not take an option; compare the command in the log with `atc --help` and "
        "`toolchain doctor`",
    ),
    (r"E13023", "a part of the OM is too large; report it with the log"),
    (
        r"kernel|ops package|op_impl",
        "the ops package of the chip is missing beside the toolkit; `toolchain doctor` names it",
    ),
    (r"E19999", "an error inside ATC; report it with the log and ~/ascend/log"),
)
OUT_OF_MEMORY = CAUSES[2][1]


def run_atc(
    atc: Path,
    options: Sequence[str],
    environment: Mapping[str, str],
    name: str,
    log: Path,
    report: Report,
) -> None:
    """Runs ATC to its end.

    Args:
        atc: the program.
        options: its options.
        environment: its environment.
        name: of the graph, for messages.
        log: file that all it prints goes to, after the command.
        report: told its lines.

    Raises:
        TargetError: it failed; says the error, its meaning and where the log is.
    """
    command = [str(atc), *options]
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with log.open("w", encoding="utf-8") as stream:
        stream.write(f"$ {shlex.join(command)}\n")
        # In a session of its own, so that the wrapper's children end with it.
        with subprocess.Popen(
            command,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                assert process.stdout is not None, "it is a pipe"
                for line in process.stdout:
                    stream.write(line)
                    stream.flush()
                    lines.append(line)
                    if line.strip(" .\n"):
                        report(f"atc {name}: {line.strip()}"[:120])
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        stream.write(f"exit code {process.returncode}\n")
    output = "".join(lines)
    if process.returncode != 0 or SUCCESS not in output:
        raise TargetError(
            f"atc failed on {name}",
            got=_what_it_said(process.returncode, output),
            next_step=f"{_cause(process.returncode, output)}; the log is {log}",
        )


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


def _what_it_said(code: int, output: str) -> str:
    """The first line with an error code, or the last line, or how it ended."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    coded = [line for line in lines if CODE.search(line)]
    said = (coded or lines[-1:] or ["no output"])[0]
    ended = "killed" if code in (KILLED, 128 + signal.SIGKILL) else f"exit code {code}"
    return f"{ended}: {said}"[:MAX_QUOTED]


def _cause(code: int, output: str) -> str:
    if code in (KILLED, 128 + signal.SIGKILL):  # the kernel's answer to a lack of memory
        return OUT_OF_MEMORY
    for pattern, meaning in CAUSES:
        if re.search(pattern, output):
            return meaning
    return "this error is not in our table; report it with the log"
