"""What both command lines share: --version, -h, and errors as exit codes.

0 done, 1 a named error in one line, 2 wrong usage.

Typer itself ends with 130 on Ctrl-C and quietly when the reader of a pipe has left.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Annotated, NoReturn, TextIO, cast

import typer

from runtime.encodings import can_write_chinese
from runtime.errors import UserError, one_line
from runtime.printable import printable

__all__ = [
    "REMEDIES",
    "LongWork",
    "make_app",
    "note",
    "note_once",
    "run_app",
    "show",
    "show_json",
]

PACKAGE = "alpaca2-toolchain"
LONG_BYTES = 250e6  # that take a person's patience to read and hash
# Package that may be absent -> extra of alpaca2-toolchain that brings it.
EXTRAS = {
    "cryptography": "[sign]",
    "fastapi": "[serve]",
    "httpx2": "[remote]",
    "matplotlib": "[report]",
    "onnx": "[compile]",
    "onnx_ir": "[compile] (to export: [export])",
    "onnxruntime": "[cpu]",
    "prometheus_client": "[serve]",
    "pydantic_settings": "[serve]",
    "ray": "[ray]",
    "onnxscript": "[export]",
    "safetensors": "[export]",
    "torch": "[export]",
    "uvicorn": "[serve]",
}

REMEDIES = {
    errno.EACCES: "give this user the right to it, or choose another place",
    errno.EAGAIN: "close other programs, or raise ulimit -u",
    errno.EFBIG: "raise the limit with ulimit -f, or choose a file system for large files",
    errno.EDQUOT: "the quota of this user is used up: free some room",
    errno.EMFILE: "raise the limit with ulimit -n",
    errno.ENFILE: "close other programs: the system has too many files open",
    errno.ENOMEM: "close other programs, or give the process more memory",
    errno.ENOSPC: "free some room on that disk, or choose another place",
    errno.EROFS: "choose another place",
}


def note(text: str) -> None:
    """Says something that is not the result: on stderr, with control characters written out."""
    if sys.stderr is not None:  # else print would take stdout
        print(printable(text), file=sys.stderr, flush=True)


class LongWork:
    """Says which step of a long work is under way, to a person who waits for it."""

    def __init__(self) -> None:
        self._step = ""

    def step(self, text: str) -> None:
        """See Progress."""
        self._step = text

    def expect(self, num_bytes: int) -> None:
        """See Progress."""
        if num_bytes >= LONG_BYTES and sys.stderr is not None and sys.stderr.isatty():
            note(f"{self._step}: {num_bytes / 1e9:.1f} GB")

    def advance(self, num_bytes: int) -> None:
        """See Progress."""


def show(text: str, end: str = "\n") -> None:
    """Prints a part of the result, with control characters written out."""
    print(printable(text), end=end, flush=True)


def show_json(text: str) -> None:
    """Prints a JSON document: exactly this text, in UTF-8 whatever the terminal's encoding is."""
    data = f"{text}\n".encode("utf-8", "backslashreplace")  # \udcff is what JSON has for it
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:  # a stream that a test or another program has put in
        print(data.decode(), end="", flush=True)


def make_app(about: str) -> typer.Typer:
    """A command line to register commands with."""
    app = typer.Typer(
        help=about,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_options_of_all)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(PACKAGE, version(PACKAGE))
        raise typer.Exit


def _options_of_all(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Stands before the commands; its option is done when it has been read."""


@cache
def note_once(text: str) -> None:
    """As `note`, the first time that it is said; what is read twice need not be told twice."""
    note(text)


class _ClosedOutput(io.TextIOBase):
    """Stands for a closed standard output: who writes to it is told, who does not may go on."""

    def write(self, _: str) -> int:
        raise OSError(errno.EBADF, "standard output is closed; send it to a file, or to /dev/null")


def _fill_closed_streams() -> None:
    """Lets no file that is opened later become a standard stream that was closed."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            break
    if sys.stdout is None:
        sys.stdout = cast(TextIO, _ClosedOutput())


def _terminate(signum: int, _: FrameType | None) -> NoReturn:
    """Leaves through every `finally`, so that nothing half-written stays."""
    sys.exit(128 + signum)


def system_error(error: OSError) -> str:
    """What the system refused, on which file, and what to do."""
    remedy = REMEDIES.get(error.errno or 0, "")
    file = "" if error.filename is None else f": {error.filename}"
    words = error.strerror.lower() if error.strerror else str(error)
    return "; ".join(filter(None, (f"{words}{file}", remedy)))


def run_app(app: Callable[[], None]) -> None:
    """Runs a command line and exits."""
    for signum in (signal.SIGTERM, signal.SIGHUP):  # asked to end; the terminal is gone
        signal.signal(signum, _terminate)
    _fill_closed_streams()
    if isinstance(sys.stdin, io.TextIOWrapper):  # what it cannot read comes in as from argv
        sys.stdin.reconfigure(errors="surrogateescape")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Latin-1 says that the locale is not set up, not that the terminal has no Chinese.
            encoding = stream.encoding if can_write_chinese(stream.encoding) else "utf-8"
            stream.reconfigure(encoding=encoding, errors="replace")
    try:
        app()
    except UserError as error:
        note(f"error: {one_line(error)}")
        sys.exit(1)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        install = f"alpaca2-toolchain{EXTRAS[package]}" if package in EXTRAS else package
        note(f"error: this needs the Python package {package}; install {install}")
        sys.exit(1)
    except MemoryError:
        note("error: out of memory; give the process more, or take a shorter context")
        sys.exit(1)
    except OSError as error:  # a full disk, a file that may not be read
        note(f"error: {system_error(error)}")
        sys.exit(1)
    except ImportError as error:  # a package that is there but cannot be loaded
        note(f"error: {error.name} cannot be imported: {str(error).splitlines()[0]}")
        sys.exit(1)
