"""checkpoint + profile -> exported bundle, as one flat list of steps."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir
import sentencepiece
import torch
from torch import Tensor

from export.checkpoint import expected_shapes, open_checkpoint
from export.config import load_config
from export.errors import CheckpointError, ConfigError
from export.graphs import graph_inputs, graph_outputs
from export.trace import trace
from profiles import Profile
from runtime.bundle import GENERATION_CONFIG, GRAPHS_DIR, TOKENIZER, Bundle, BundleWriter
from runtime.manifest import Graph, GraphSpec, Manifest, ModelConfig, Provenance

__all__ = ["export_bundle", "float16_bytes"]

TOOLS = ("alpaca2-toolchain", "torch", "onnx", "onnx-ir", "onnxscript")
Report = Callable[[str], None]


def export_bundle(model: Path, profile: Profile, output: Path, report: Report) -> Bundle:
    """Exports a checkpoint as the graphs that a profile lists.

    Args:
        model: directory in Hugging Face layout.
        profile: which graphs to build.
        output: the bundle to write; an existing bundle is replaced.
        report: told one line per step.

    Raises:
        ConfigError, CheckpointError: the model cannot be exported.
        UserError: the output cannot be written.
    """
    # 1. Everything that can be refused is refused before the first byte is written.
    config = load_config(model)
    _check_context(config, profile)
    checkpoint = open_checkpoint(model, config)
    tokenizer, generation = _text_files(model)
    _check_tokenizer(model / TOKENIZER, tokenizer, config.vocab_size)

    with BundleWriter(output) as writer:
        # 2. Weights, one tensor at a time, each distinct one once.
        locations: dict[str, str] = {}
        for i, parameter in enumerate(parameters(config), 1):
            report(f"weights {i}/{len(parameters(config))}: {parameter}")
            tensor = checkpoint.tensor(parameter)
            locations[parameter] = writer.write_weight(parameter, float16_bytes(parameter, tensor))

        # 3. Graphs, on fake tensors.
        graphs = []
        for i, spec in enumerate(profile.graphs, 1):
            report(f"graph {i}/{len(profile.graphs)}: {spec.name}")
            graph = _graph(config, spec)
            writer.write(graph.path, [_serialise(trace(config, spec), locations)])
            graphs.append(graph)

        # 4. What the runtime needs besides, and the manifest.
        writer.write(TOKENIZER, [tokenizer])
        writer.write(GENERATION_CONFIG, [generation])
        return writer.finish(
            Manifest(
                stage="exported",
                target="portable",
                weights="fp16",
                model=config,
                graphs=tuple(graphs),
                files=writer.files,
                provenance=_provenance(model, profile),
                profile=profile.model_dump(mode="json"),
            )
        )


def parameters(config: ModelConfig) -> list[str]:
    """Decoder parameters in checkpoint order; a tied head is the embedding."""
    names = [name.removeprefix("model.") for name in expected_shapes(config)]
    return [name for name in names if not (config.tie_word_embeddings and name.startswith("lm_"))]


def float16_bytes(parameter: str, tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor as float16, row-major.

    Raises:
        CheckpointError: a value is not finite in float16.
    """
    half = tensor.to(torch.float16).contiguous()
    if not torch.isfinite(half).all():
        raise CheckpointError(
            f"tensor {parameter} has values that are not finite in float16",
            got=f"{tensor.dtype}, largest {tensor.abs().max().item():g}",
            allowed="up to 65504",
        )
    yield half.numpy().view(np.uint8).data


def _graph(config: ModelConfig, spec: GraphSpec) -> Graph:
    return Graph(
        spec=spec,
        path=f"{GRAPHS_DIR}/{spec.name}.onnx",
        inputs=graph_inputs(config, spec),
        outputs=graph_outputs(config, spec),
    )


def _serialise(model: ir.Model, locations: dict[str, str]) -> bytes:
    """The graph as protobuf, its weights pointing at where they were stored."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            value.const_value = ir.ExternalTensor(
                locations[value.name or ""],
                0,
                tensor.length,
                tensor.dtype,
                shape=tensor.shape,
                name=value.name or "",
            )
    serialised: bytes = ir.to_proto(model).SerializeToString()
    return serialised


def _check_context(config: ModelConfig, profile: Profile) -> None:
    longest = max(spec.cache_len for spec in profile.graphs)
    positions = int(config.max_position_embeddings * config.rope_scaling_factor)
    if longest > positions:
        raise ConfigError(
            f"profile {profile.name} caches more positions than the model has",
            got=longest,
            allowed=f"up to {positions}",
            next_step="lower cache_len in the profile",
        )


def _text_files(model: Path) -> tuple[bytes, bytes]:
    tokenizer = model / TOKENIZER
    if not tokenizer.is_file():
        raise CheckpointError(f"no {TOKENIZER} in {model}", next_step="copy it beside the shards")
    generation = model / GENERATION_CONFIG
    if generation.is_file():
        return tokenizer.read_bytes(), generation.read_bytes()
    eos = json.loads((model / "config.json").read_bytes()).get("eos_token_id", 2)
    return tokenizer.read_bytes(), json.dumps({"eos_token_id": eos}).encode()


def _check_tokenizer(file: Path, data: bytes, vocab_size: int) -> None:
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_proto=data).get_piece_size()
    except RuntimeError as error:
        raise CheckpointError(
            f"{file} is not a SentencePiece model",
            next_step="download it again; it may be a pointer",
        ) from error
    if pieces > vocab_size:
        raise CheckpointError(
            f"{file} has more pieces than the model", got=pieces, allowed=f"up to {vocab_size}"
        )


def _provenance(model: Path, profile: Profile) -> Provenance:
    """Small source files by their hash; each weight file of the bundle carries its own."""
    small = [file for file in sorted(model.iterdir()) if file.suffix in (".json", ".model")]
    return Provenance(
        source_files={f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in small},
        tool_versions={
            "python": platform.python_version(),
            **{tool: version(tool) for tool in TOOLS},
        },
        options={"command": "export", "profile": profile.name},
    )
