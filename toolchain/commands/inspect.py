"""toolchain inspect BUNDLE."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.options import AsJson, JsonFile

if TYPE_CHECKING:
    from runtime.bundle.manifest import Device, ModelConfig
    from runtime.bundle.reader import Bundle

__all__ = ["command"]

TEMPLATES = {"alpaca2": "Alpaca-2", "jinja": "the checkpoint's own", "none": "none: a base model"}


def command(
    bundle: Annotated[Path, typer.Argument(help="Exported or compiled bundle.")],
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Check a bundle and show what is in it."""
    from runtime.bundle.reader import load_bundle
    from runtime.console import LongWork
    from runtime.documents import document, give_document
    from toolchain.console import human_bytes, print_table

    loaded = load_bundle(bundle, LongWork())
    manifest = loaded.manifest
    if as_json or output is not None:
        found = {"sha256": loaded.digest, **manifest.model_dump(mode="json")}
        give_document(document("bundle", found), output)
        return
    facts = {
        **_made(loaded),
        **_model_facts(manifest.model),
        "tokenizer": manifest.tokenizer,
        "template": TEMPLATES[manifest.template],
        "context": manifest.cache_len,
        "cache": f"{manifest.cache_dtype}, {manifest.num_slots} slots",
        "files": f"{len(manifest.files)}, all intact",
        "size": human_bytes(sum(entry.size for entry in manifest.files.values())),
        **_device_facts(manifest.device),
        **{f"made with {tool}": v for tool, v in manifest.provenance.tool_versions.items()},
    }
    print_table(str(bundle), ("", "value"), [(name, str(value)) for name, value in facts.items()])
    rows = []
    for graph in manifest.every_graph:
        spec = graph.spec
        shape = (str(spec.batch_size), str(spec.seq_len), str(spec.cache_len))
        size = human_bytes(manifest.files[graph.path].size)
        cost = f"{graph.cost:.1f}"
        rows.append(
            (
                spec.name_beside(manifest.cache_len),
                *shape,
                cost,
                str(len(graph.inputs)),
                str(len(graph.outputs)),
                size,
            )
        )
    columns = ("graph", "batch", "new rows", "cached rows", "steps", "inputs", "outputs", "size")
    print_table("graphs", columns, rows)


def _made(bundle: "Bundle") -> dict[str, object]:
    """What was chosen, and what of the source tells this bundle from another."""
    manifest, without = bundle.manifest, bundle.manifest.provenance.options.get("without")
    left_out = map(str, without) if isinstance(without, list) else ()
    facts: dict[str, object] = {
        "bundle": short_hash(bundle.digest),
        "stage": manifest.stage,
        "target": manifest.target,
        "backend": manifest.backend,
        "kernels": "of the backend" if manifest.kernels is None else f"own, {manifest.kernels}",
        "profile": manifest.profile["name"],
        "weights": _weights(bundle),
        "passes left out": ", ".join(left_out) or "none",
    }
    sources = manifest.provenance.source_files
    return facts | {f"from {name}": short_hash(digest) for name, digest in sources.items()}


def _weights(bundle: "Bundle") -> str:
    from profiles import exported_profile

    if bundle.manifest.stage == "exported":  # what its profile asks for is still to come
        return bundle.manifest.weights
    return exported_profile(bundle).described_weights


def short_hash(digest: str) -> str:
    """Enough of a SHA-256 to tell files apart."""
    return digest[:12]


def _model_facts(model: "ModelConfig") -> dict[str, object]:
    scaling = model.rope_scaling
    scaled = "" if scaling is None else f", {scaling.rope_type}"
    return {
        "layers": model.num_hidden_layers,
        "hidden size": model.hidden_size,
        "heads (key/value)": f"{model.num_attention_heads} ({model.num_key_value_heads})",
        "vocabulary": model.vocab_size,
        "positions": f"rope, base {model.rope_theta:g}{scaled}, "
        f"up to {model.max_position_embeddings}",
        "embedding and head": "one tensor" if model.tie_word_embeddings else "two tensors",
    }


def _device_facts(device: "Device | None") -> dict[str, str]:
    """What a bundle for a chip says of it; nothing for one that runs anywhere."""
    if device is None:
        return {}
    return {
        "chip": device.soc_name,
        "compiled with CANN": device.cann,
        "cache layout": device.cache_layout,
        "new rows": f"written by the {device.cache_write}",
        "on the card": device.verdict,
    }
