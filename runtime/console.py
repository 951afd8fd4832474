"""What both command lines share: --version, -h, and errors as exit codes.

0 done, 1 a named error in one line, 2 wrong usage.

Typer itself ends with 130 on Ctrl-C and quietly when the reader of a pipe has left.
"""

import io
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, NoReturn

import typer

from runtime.errors import UserError, one_line

__all__ = ["make_app", "note", "run_app"]

PACKAGE = "alpaca2-toolchain"
# Package that may be absent -> extra of alpaca2-toolchain that brings it.
EXTRAS = {
    "matplotlib": "[report]",
    "onnx": "[compile]",
    "onnx_ir": "[compile] (to export: [export])",
    "onnxruntime": "[cpu]",
    "onnxscript": "[export]",
    "safetensors": "[export]",
    "torch": "[export]",
}


def note(text: str) -> None:
    """Says something that is not the result: on stderr."""
    print(text, file=sys.stderr, flush=True)


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


def _terminate(signum: int, _: FrameType | None) -> NoReturn:
    """Leaves through every `finally`, so that nothing half-written stays."""
    sys.exit(128 + signum)


def run_app(app: Callable[[], None]) -> None:
    """Runs a command line and exits."""
    for signum in (signal.SIGTERM, signal.SIGHUP):  # asked to end; the terminal is gone
        signal.signal(signum, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character
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
        note(f"error: {error}")
        sys.exit(1)
