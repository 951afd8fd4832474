"""Turns errors into exit codes: 0 done, 1 a named error in one line, 2 wrong usage."""

import os
import sys
from collections.abc import Callable

from runtime.errors import UserError

__all__ = ["note", "run_app"]

INSTALL = "install alpaca2-toolchain with the extra that has it: [cpu] to run, [export] to build"
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


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
    except KeyboardInterrupt:
        note("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output left; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
