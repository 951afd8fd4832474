"""Turns errors into exit codes: 0 done, 1 a named error in one line, 2 wrong usage.

Typer itself ends with 130 on Ctrl-C and quietly when the reader of a pipe has left.
"""

import io
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from runtime.errors import UserError, one_line

__all__ = ["note", "run_app"]

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
