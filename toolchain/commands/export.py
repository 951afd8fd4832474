"""toolchain export MODEL -o BUNDLE."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from toolchain.options import ProfileOption

__all__ = ["command"]

LoadFormat = Literal["auto", "dummy"]


def command(
    model: Annotated[Path, typer.Argument(help="Checkpoint directory, Hugging Face layout.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle to write.")],
    profile: ProfileOption = "cpu",
    load_format: Annotated[
        LoadFormat,
        typer.Option(help="auto reads the weights; dummy makes random ones from config.json."),
    ] = "auto",
) -> None:
    """Turn a checkpoint into static-shape ONNX graphs."""
    from export.config import load_config
    from profiles import load_profile
    from toolchain.console import ConsoleProgress, human_bytes
    from toolchain.costs.export_costs import export_costs
    from toolchain.host.machine import require_memory

    deployment = load_profile(profile)
    costs = export_costs(load_config(model), deployment)
    mapped = costs.read.value if costs.read is not None and load_format == "auto" else 0
    require_memory(costs.host_memory.value, mapped, f"export {model}")

    from export.exporter import export_bundle  # torch, which takes a second and much memory

    progress = ConsoleProgress()
    with progress:
        bundle = export_bundle(model, deployment, output, progress, load_format)
    size = sum(entry.size for entry in bundle.manifest.files.values())
    progress.done(f"wrote {output}: {len(bundle.manifest.graphs)} graphs, {human_bytes(size)}")
