"""toolchain pack COMPILED -o BOX.tar."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from toolchain.options import HostCPUOption

__all__ = ["command"]

THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def command(
    bundle: Annotated[Path, typer.Argument(help="Compiled bundle.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Tar to write.")],
    host_cpu: HostCPUOption = None,
    python: Annotated[str, typer.Option(help="Python of the box.")] = THIS_PYTHON,
    extra: Annotated[
        list[str] | None,
        typer.Option(help="One more extra of the runtime, such as constrain; repeatable."),
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Take all wheels from here. Default: pip's index."),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign with this private key (Ed25519, PEM)."),
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option(metavar="PACK", help="Leave out what this pack of the box has already."),
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Checkout of this project. Default: the one that runs, or the current directory.",
        ),
    ] = None,
) -> None:
    """Pack a bundle and the runtime for a box without a network."""
    from toolchain.console import ConsoleProgress, human_bytes
    from toolchain.pack.make import Box, make_pack

    box = Box(host_cpu=host_cpu, python=python, extras=tuple(extra or ()))
    with ConsoleProgress() as progress:
        pack = make_pack(
            bundle,
            output,
            box,
            project=project,
            wheels=wheels,
            key=sign,
            since=since,
            progress=progress,
        )
    size = human_bytes(output.stat().st_size)
    progress.done(f"wrote {output}: pack {pack.name} for {pack.info['host_cpu']}, {size}")
