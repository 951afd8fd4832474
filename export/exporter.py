"""checkpoint + profile -> exported bundle, as one flat list of steps."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from export.checkpoint import TensorSource
from export.config import check_context, scaled_config
from export.dummy import DUMMY_EOS, DummyCheckpoint, dummy_tokenizer
from export.generation import read_generation
from export.graphs import portable_graph
from export.lora import Adapter, open_adapter, open_weights
from export.tokenizer_files import TokenizerFiles, has_tokenizer, read_tokenizer
from export.trace import trace
from export.weight_jobs import weight_jobs
from profiles import Profile
from runtime.bundle.manifest import Manifest, ModelConfig, Provenance
from runtime.bundle.reader import GENERATION_CONFIG, TOKENIZER, Bundle
from runtime.bundle.writer import BundleWriter
from runtime.progress import SILENT, Progress

__all__ = ["export_bundle"]

TOOLS = ("alpaca2-toolchain", "torch", "onnx", "onnx-ir", "onnxscript")
LoadFormat = Literal["auto", "dummy"]
SMALL_FILES = (".jinja", ".json", ".model")
ADAPTER = "adapter"  # before the names of its files, in the manifest


def export_bundle(
    model: Path,
    profile: Profile,
    output: Path,
    progress: Progress = SILENT,
    load_format: LoadFormat = "auto",
    rope: str | None = None,
    lora: Path | None = None,
) -> Bundle:
    """Exports a checkpoint as the graphs that a profile lists.

    Args:
        model: directory in Hugging Face layout.
        profile: which graphs to build.
        output: the bundle to write; an existing bundle is replaced.
        progress: told each step and the bytes written.
        load_format: "dummy" makes random weights from config.json alone.
        rope: another scaling of positions than config.json has; see with_rope.
        lora: directory of an adapter of PEFT, which is merged into the weights.

    Raises:
        ConfigError, CheckpointError: the model cannot be exported.
        UserError: the output cannot be written.
    """
    # 1. Everything that config and names tell is refused before the first byte is written.
    config = scaled_config(model, rope, profile)
    adapter = None if lora is None else open_adapter(lora, config)
    config = config if adapter is None else adapter.merged
    check_context(config, profile)
    tokenizer = _tokenizer(model, config, load_format, adapter)
    generation = read_generation(model, config, tokenizer.eos_token_id)
    options = {"profile": profile.name, "load_format": load_format, "rope": rope}
    provenance = _provenance(model, adapter, options)
    source: TensorSource = (
        DummyCheckpoint(config) if load_format == "dummy" else open_weights(model, config, adapter)
    )
    jobs, num_bytes = weight_jobs(config, source)

    with BundleWriter(output, progress) as writer:
        # 2. Weights: read, hashed and written chunk by chunk on all cores, while ...
        writer.place.require(num_bytes)
        progress.expect(num_bytes)
        writer.files.start_weights(jobs)

        # 3. ... the graphs are traced on fake tensors.
        graphs = [portable_graph(config, spec) for spec in profile.graphs]
        for i, graph in enumerate(graphs, 1):
            progress.step(f"graph {i}/{len(graphs)}: {graph.spec.name}")
            model_proto = ir.to_proto(trace(config, graph.spec))
            writer.files.write(graph.path, [model_proto.SerializeToString()])
        progress.step(f"weights: {len(jobs)} tensors")
        writer.files.wait()

        # 4. What the runtime needs besides, and the manifest.
        for name, data in {**tokenizer.files, GENERATION_CONFIG: generation}.items():
            writer.files.write(name, [data])
        return writer.finish(
            Manifest(
                stage="exported",
                backend="portable",
                target="portable",
                weights="fp16",
                model=config,
                graphs=tuple(graphs),
                tokenizer=tokenizer.kind,
                template=tokenizer.template,
                num_slots=profile.num_slots,
                files=writer.files.entries,
                provenance=provenance,
                profile=profile.model_dump(mode="json"),
            )
        )


def _tokenizer(
    model: Path, config: ModelConfig, load_format: LoadFormat, adapter: Adapter | None
) -> TokenizerFiles:
    """The tokenizer; a dummy makes one up where there is none."""
    if load_format == "dummy" and not has_tokenizer(model):
        return TokenizerFiles(
            files={TOKENIZER: dummy_tokenizer(config.vocab_size)}, eos_token_id=DUMMY_EOS
        )
    return read_tokenizer(model if adapter is None else adapter.tokenizer_directory(model), config)


def _provenance(model: Path, adapter: Adapter | None, options: dict[str, str | None]) -> Provenance:
    """Small source files and an adapter's by their hash; each weight file has its own."""
    files = {file.name: file for file in _small_files(model)}
    if adapter is not None:
        theirs = [*_small_files(adapter.directory), adapter.weights]
        files |= {f"{ADAPTER}/{file.name}": file for file in theirs}
        options = {**options, "lora": adapter.directory.resolve().name}
    return Provenance(
        source_files={name: _sha256(file) for name, file in files.items()},
        tool_versions={
            "python": platform.python_version(),
            **{tool: version(tool) for tool in TOOLS},
        },
        options={"command": "export", **options},
    )


def _small_files(directory: Path) -> list[Path]:
    return [f for f in sorted(directory.iterdir()) if f.suffix in SMALL_FILES and f.is_file()]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
