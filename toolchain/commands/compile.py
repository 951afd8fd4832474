"""toolchain compile BUNDLE -o COMPILED."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle to write.")],
    target: Annotated[str | None, typer.Option(help="Default: the profile's.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="fp32, int8 or int4. Default: the profile's.")
    ] = None,
    kv_cache: Annotated[
        str | None, typer.Option(help="float or int8. Default: the profile's.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="REWRITE", help="Leave a rewrite out, to find a fault; repeatable."),
    ] = None,
) -> None:
    """Compile an exported bundle for one target."""
    from runtime.bundle import load_bundle
    from toolchain.compiler import compile_bundle
    from toolchain.console import Progress, human_bytes

    progress = Progress()
    with progress:
        compiled = compile_bundle(
            load_bundle(bundle),
            output,
            target=target,
            weights=weights,
            kv_cache=kv_cache,
            without=without or (),
            report=progress,
        )
    size = sum(entry.size for entry in compiled.manifest.files.values())
    kind = f"{compiled.manifest.target} {compiled.manifest.weights}"
    progress.done(f"wrote {output}: {kind}, {human_bytes(size)}")
