"""A limit of the system is told as what it is, and no library prints into the result."""

import errno
import os
import resource
import shutil
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
        (errno.EFBIG, "file too large: out/x; raise the limit with ulimit -f"),
        (errno.EISDIR, "is a directory: out/x"),
    ],
)
def test_an_error_of_the_system_names_the_file_and_what_to_do(number: int, says: str) -> None:
    assert system_error(OSError(number, os.strerror(number), "out/x")).startswith(says)


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        *[("runtime", ["generate", "{}", "Hello", *more]) for more in ([], ["--json"])],
        *[("runtime", ["--help"]), ("runtime", ["--version"])],
        *[("toolchain", ["inspect", "{}", *more]) for more in ([], ["--json"])],
        ("toolchain", ["profiles"]),
    ],
)
def test_a_result_that_has_nowhere_to_go_is_told(
    main: str, arguments: list[str], bundles: Path
) -> None:
    done = _without_stdout(main, [part.format(bundles / "talk-int4") for part in arguments])
    assert done.returncode == 1
    said = "error: standard output is closed; send it to a file, or to /dev/null"
    assert done.stderr.splitlines()[-1] == said


def test_what_prints_no_result_needs_no_stdout_and_leaves_its_number_free_for_no_file(
    tmp_path: Path,
) -> None:
    """Else the first file that is opened is what libraries print into."""
    assert _without_stdout("toolchain", ["profiles", "-o", str(tmp_path / "x")]).returncode == 0
    script = (
        "import os; from runtime.console import run_app; "
        "run_app(lambda: os.write(2, str(os.open('/', os.O_RDONLY)).encode()))"
    )
    assert _run_without_stdout([sys.executable, "-c", script]).stderr == "3"


def test_a_path_that_onnx_runtime_does_not_take_is_told(bundles: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(bundles / "talk-int4", tmp_path / "b\udcff")
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "generate", bundle, "Hello"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ONNX Runtime opens no file of ")
    assert "b\\udcff; got a path that is not UTF-8; rename it" in done.stderr


def _without_stdout(main: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    script = f"from {main}.cli import main; main()"
    return _run_without_stdout([sys.executable, "-c", script, *arguments])


def _run_without_stdout(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
