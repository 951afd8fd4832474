"""Turns errors into exit codes: 0 done, 1 a named error in one line, 2 wrong usage.

Typer itself ends with 130 on Ctrl-C and quietly when the reader of a pipe has left.
"""

import sys
from collections.abc import Callable

from runtime.errors import UserError

__all__ = ["note", "run_app"]

INSTALL = "install alpaca2-toolchain with the extra that has it: [cpu] to run, [export] to build"


def note(text: str) -> None:
    """Says something that is not the result: on stderr."""
    print(text, file=sys.stderr, flush=True)


def run_app(app: Callable[[], None]) -> None:
    """Runs a command line and exits."""
    try:
        app()
    except UserError as error:
        note(f"error: {error}")
        sys.exit(1)
    except ModuleNotFoundError as error:
        note(f"error: this needs the Python package {error.name}; {INSTALL}")
        sys.exit(1)
    except OSError as error:  # a full disk, a file that may not be read
        note(f"error: {error}")
        sys.exit(1)
