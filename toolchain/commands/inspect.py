"""toolchain inspect BUNDLE."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from runtime.bundle.manifest import Device

__all__ = ["command"]


def command(
    bundle: Annotated[Path, typer.Argument(help="Exported or compiled bundle.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Check a bundle and show what is in it."""
    from runtime.bundle.reader import load_bundle
    from toolchain.console import human_bytes, print_table

    manifest = load_bundle(bundle).manifest
    if as_json:
        print(manifest.model_dump_json(indent=2))
        return
    model = manifest.model
    facts = {
        "stage": manifest.stage,
        "target": manifest.target,
        "weights": manifest.weights,
        "layers": model.num_hidden_layers,
        "hidden size": model.hidden_size,
        "heads (key/value)": f"{model.num_attention_heads} ({model.num_key_value_heads})",
        "vocabulary": model.vocab_size,
        "context": manifest.cache_len,
        "cache slots": manifest.num_slots,
        "files": f"{len(manifest.files)}, all intact",
        "size": human_bytes(sum(entry.size for entry in manifest.files.values())),
        **_device_facts(manifest.device),
        **{f"made with {tool}": v for tool, v in manifest.provenance.tool_versions.items()},
    }
    print_table(str(bundle), ("", "value"), [(name, str(value)) for name, value in facts.items()])
    rows = []
    for graph in manifest.graphs:
        spec = graph.spec
        shape = (str(spec.batch_size), str(spec.seq_len), str(spec.cache_len))
        size = human_bytes(manifest.files[graph.path].size)
        rows.append((spec.name, *shape, str(len(graph.inputs)), str(len(graph.outputs)), size))
    columns = ("graph", "batch", "new rows", "cached rows", "inputs", "outputs", "size")
    print_table("graphs", columns, rows)


def _device_facts(device: "Device | None") -> dict[str, str]:
    """What a bundle for a chip says of it; nothing for one that runs anywhere."""
    if device is None:
        return {}
    return {
        "chip": device.soc_name,
        "compiled with CANN": device.cann,
        "cache layout": device.cache_layout,
        "on the card": device.verdict,
    }
