"""The command line on the host: one module per command, imported when the command runs."""

from typing import Any

from runtime.console import make_app, run_app
from toolchain.commands import (
    bench,
    bench_serve,
    bundles,
    compare,
    compile,
    doctor,
    eval,
    export,
    inspect,
    miniature,
    pack,
    plan,
    profiles,
    run,
    verify,
)

__all__ = ["app", "main"]

app = make_app("Turn a Llama-family checkpoint into a compiled bundle, and prove what was made.")
COMMANDS: tuple[Any, ...] = (
    run,
    miniature,
    export,
    compile,
    verify,
    plan,
    bench,
    bench_serve,
    bundles,
    compare,
    eval,
    inspect,
    doctor,
    profiles,
    pack,
)
for module in COMMANDS:
    name = module.__name__.rpartition(".")[-1].replace("_", "-")
    app.command(name=name)(module.command)


def main() -> None:
    """Entry point of the `toolchain` script."""
    run_app(app)
