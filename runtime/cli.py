"""The command line on the device: one module per command, imported when the command runs."""

import sys
from io import TextIOWrapper
from typing import Any

from runtime.commands import chat, generate
from runtime.console import make_app, run_app

__all__ = ["app", "main"]

app = make_app("Run a compiled bundle.")
COMMANDS: tuple[Any, ...] = (generate, chat)
for module in COMMANDS:
    app.command(name=module.__name__.rpartition(".")[-1])(module.command)


def main() -> None:
    """Entry point of the `runtime` script."""
    if isinstance(sys.stdin, TextIOWrapper):  # what is not UTF-8 comes in as it does from argv
        sys.stdin.reconfigure(errors="surrogateescape")
    run_app(app)
