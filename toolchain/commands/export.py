"""toolchain export MODEL -o BUNDLE."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from toolchain.options import LoraOption, ProfileOption, RopeOption

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
    rope: RopeOption = None,
    lora: LoraOption = None,
) -> None:
    """Turn a checkpoint into static-shape ONNX graphs."""
    from export.config import scaled_config
    from export.weight_files import unmapped_bytes
    from profiles import load_profile
    from toolchain.choices import check_profile
    from toolchain.console import ConsoleProgress, human_bytes
    from toolchain.costs.export_costs import export_costs
    from toolchain.host.machine import require_memory

    deployment = load_profile(profile)
    config = scaled_config(model, rope, deployment)
    if lora is not None:
        from export.lora import open_adapter

        config = open_adapter(lora, config).merged
    costs = export_costs(config, deployment)
    mapped, unmapped = 0.0, 0
    if load_format == "auto":
        mapped = costs.read.value if costs.read is not None else 0.0
        unmapped = unmapped_bytes(model)
    require_memory(costs.host_memory.value + unmapped, mapped, f"export {model}")
    check_profile(config, deployment)

    from export.exporter import export_bundle  # torch, which takes a second and much memory

    progress = ConsoleProgress()
    with progress:
        bundle = export_bundle(model, deployment, output, progress, load_format, rope, lora)
    size = sum(entry.size for entry in bundle.manifest.files.values())
    progress.done(f"wrote {output}: {len(bundle.manifest.graphs)} graphs, {human_bytes(size)}")
