"""toolchain export MODEL -o BUNDLE."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    model: Annotated[Path, typer.Argument(help="Checkpoint directory, Hugging Face layout.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle to write.")],
    profile: Annotated[str, typer.Option(help="Name, or path of a .toml file.")] = "cpu",
) -> None:
    """Turn a checkpoint into static-shape ONNX graphs."""
    from export.exporter import export_bundle
    from profiles import load_profile
    from toolchain.console import Progress, human_bytes

    progress = Progress()
    bundle = export_bundle(model, load_profile(profile), output, progress)
    size = sum(entry.size for entry in bundle.manifest.files.values())
    progress.done(f"wrote {output}: {len(bundle.manifest.graphs)} graphs, {human_bytes(size)}")
