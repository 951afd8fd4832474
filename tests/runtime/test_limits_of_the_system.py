"""A limit of the system is told as what it is, and no library prints into the result."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import load_bundle
from runtime.console import system_error

MAIN = "from runtime.cli import main; main()"


def test_too_many_open_files_are_not_a_fault_of_the_bundle(bundles: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "generate", bundles / "talk-int4", "Hello", "--json"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12)),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "too many open files; got a limit of 12 open files; raise it with ulimit -n" in (
        done.stderr
    )


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("SystemError : 24", "too many open files"),
        ("SystemError : 13", "permission denied; make the files"),
        ("std::bad_alloc", "cannot allocate memory; "),
        ("Failed to allocate: bad allocation", "cannot allocate memory; "),
        ("thread constructor failed: Resource temporarily unavailable", "--threads 1"),
        ("Load model failed: unknown operator", "compile the bundle again with this version"),
        ("SystemError : 2", "got SystemError : 2; compile the bundle again"),
    ],
)
def test_the_cause_is_read_from_what_onnx_runtime_says(said: str, says: str, bundles: Path) -> None:
    from runtime.sessions.onnx.failures import session_failure

    graph: Graph = load_bundle(bundles / "talk-int4").manifest.graphs[0]
    assert says in str(session_failure(graph, "load", RuntimeError(said)))


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "no space left on device: out/x; free some room"),
        (errno.EACCES, "permission denied: out/x; give this user the right"),
        (errno.EMFILE, "too many open files: out/x; raise the limit with ulimit -n"),
        (errno.EISDIR, "is a directory: out/x"),
    ],
)
def test_an_error_of_the_system_names_the_file_and_what_to_do(number: int, says: str) -> None:
    assert system_error(OSError(number, os.strerror(number), "out/x")).startswith(says)
