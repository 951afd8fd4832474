"""toolchain miniature DIR."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    directory: Annotated[Path, typer.Argument(help="Where to write the checkpoint.")],
) -> None:
    """Make a small trained checkpoint in the layout of Chinese-Alpaca-2-7B."""
    from export.miniature import make_miniature
    from toolchain.console import ConsoleProgress

    progress = ConsoleProgress()
    with progress:
        make_miniature(directory, progress=progress)
    progress.done(f"wrote {directory}")
