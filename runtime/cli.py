"""The command line on the device: one module per command, imported when the command runs."""

from typing import Any

from typer.core import TyperCommand

from runtime.commands import batch, chat, generate, serve
from runtime.commands.dashed_prompt import DashedPromptCommand
from runtime.console import make_app, run_app

__all__ = ["app", "main"]

app = make_app("Run a compiled bundle.")
COMMANDS: tuple[tuple[Any, type[TyperCommand]], ...] = (
    (generate, DashedPromptCommand),
    (chat, TyperCommand),
    (serve, TyperCommand),
    (batch, TyperCommand),
)
for module, kind in COMMANDS:
    app.command(name=module.__name__.rpartition(".")[-1], cls=kind)(module.command)


def main() -> None:
    """Entry point of the `runtime` script."""
    run_app(app)
