"""A decoder of one layer in GE operators, which writes its cache itself, and what it computes.

Keys, values and queries are looked up by token, so that numpy says in a few lines what comes out.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.manifest import (
    Device,
    FileEntry,
    Graph,
    GraphSpec,
    Manifest,
    ModelConfig,
    Provenance,
    TensorSpec,
)
from runtime.bundle.reader import Bundle
from tests.emulator.atc import Settings, main
from tests.emulator.ge.samples import Air, ge_type
from toolchain.targets.ascend.sharing import weight_files

__all__ = ["CACHE_LEN", "FAMILY", "air_bundle", "expected_logits"]

V, HEADS, SIZE = 48, 2, 16  # one head of keys and values
CACHE_LEN, CAUSAL = 24, 2048
CONFIG = ModelConfig(
    vocab_size=V,
    hidden_size=HEADS * SIZE,
    intermediate_size=48,
    num_hidden_layers=1,
    num_attention_heads=HEADS,
    num_key_value_heads=1,
    head_dim=SIZE,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
)
FAMILY = (
    GraphSpec(phase="prefill", batch_size=1, seq_len=4, cache_len=CACHE_LEN),
    GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=CACHE_LEN),
    GraphSpec(phase="decode", batch_size=3, seq_len=1, cache_len=CACHE_LEN),
)
ROWS = CACHE_LEN + max(spec.seq_len for spec in FAMILY)
Half = NDArray[np.float16]


def _tables() -> dict[str, Half]:
    rng = np.random.default_rng(0)
    shapes = {"query": (V, HEADS * SIZE), "key": (V, SIZE), "value": (V, SIZE)}
    shapes["head"] = (HEADS * SIZE, V)
    return {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}


def expected_logits(token_ids: Sequence[int]) -> NDArray[np.float32]:
    """After the last of these tokens: it attends to all of them."""
    table = {name: array.astype(np.float32) for name, array in _tables().items()}
    ids = np.array(token_ids)
    scores = table["query"][ids[-1]].reshape(HEADS, SIZE) @ table["key"][ids].T / SIZE**0.5
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    attended = powers / powers.sum(-1, keepdims=True) @ table["value"][ids]
    logits: NDArray[np.float32] = attended.reshape(-1) @ table["head"]
    return logits


def air_bundle(directory: Path) -> Bundle:
    """The family, compiled for a 910B3 by the emulated ATC."""
    (directory / "graphs").mkdir(parents=True)
    graphs = tuple(_compiled(directory, spec) for spec in FAMILY)
    sizes = {path: (directory / path).stat().st_size for each in graphs for path in each.weights}
    manifest = Manifest(
        stage="compiled",
        backend="acl",
        target="910b3",
        weights="fp16",
        model=CONFIG,
        graphs=graphs,
        num_slots=4,
        files={path: FileEntry(size=size, sha256="") for path, size in sizes.items()},
        provenance=Provenance(source_files={}, tool_versions={}, options={}),
        profile={},
        device=Device(
            soc_name="Ascend910B3",
            memory="hbm",
            cann="8.5.0",
            cache_layout="NHD",
            cache_write="graph",
            weight_bytes=sum(sizes.values()),
            shared_bytes=0,
            needed_bytes=0,
            available_bytes=None,
            verdict="",
        ),
    )
    return Bundle(directory, manifest)


def _compiled(directory: Path, spec: GraphSpec) -> Graph:
    settings = directory / "atc.json"
    settings.write_text(json.dumps(asdict(Settings())))
    om, printed = directory / "graphs" / f"{spec.name}.om", directory / f"{spec.name}.json"
    options = {
        "framework": "1",
        "model": str(_written(directory, spec)),
        "output": str(om.with_suffix("")),
        "soc_version": "Ascend910B3",
        "external_weight": "1",
        "tiling_schedule_optimize": "1",
    }
    for each in (options, {"mode": "1", "om": str(om), "json": str(printed)}):
        assert main([f"--{key}={value}" for key, value in each.items()], settings) == 0
    files = [file.relative_to(directory).as_posix() for file in weight_files(printed, om)]
    return Graph(
        spec=spec,
        path=om.relative_to(directory).as_posix(),
        cost=1.0,
        inputs=tuple(_inputs(spec)),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=(spec.batch_size, V)),),
        weights=tuple(files),
    )


def _inputs(spec: GraphSpec) -> list[TensorSpec]:
    batch, rows = spec.batch_size, spec.seq_len
    cache = (batch, ROWS, 1, SIZE)
    return [
        TensorSpec(name="input_ids", dtype="int64", shape=(batch, rows)),
        TensorSpec(name="start", dtype="int64", shape=(batch,)),
        TensorSpec(name="lengths" if rows == 1 else "logit_rows", dtype="int64", shape=(batch,)),
        TensorSpec(name="past_key.0", dtype="float16", shape=cache),
        TensorSpec(name="past_value.0", dtype="float16", shape=cache),
    ]


def _written(directory: Path, spec: GraphSpec) -> Path:
    """The .air of a graph."""
    air, batch, rows = Air(), spec.batch_size, spec.seq_len
    given = {
        tensor.name: air.data(
            tensor.name,
            tensor.dtype,
            tensor.shape,
            "RefData" if tensor.name.startswith("past") else "Data",
        )
        for tensor in _inputs(spec)
    }
    zero = air.const(np.array(0, np.int64))
    weights = {
        name: air.file_constant(name, array, directory / f"{name}.bin")
        for name, array in _tables().items()
    }

    def looked_up(name: str, heads: int) -> str:
        found = {"x": weights[name], "indices": given["input_ids"], "axis": zero}
        shape = air.ints(batch, rows, heads, SIZE)
        return air.op("Reshape", {"x": air.op("GatherV2", found), "shape": shape})

    def cache_with(past: str, name: str) -> str:
        new = {"var": given[past], "indices": given["start"], "updates": looked_up(name, 1)}
        return air.op("Scatter", new, {"reduce": "update", "axis": 1})

    lengths = given["lengths"] if rows == 1 else _plus(air, given["start"], rows)
    seen: dict[str, str | None] = {"actual_seq_lengths_kv": lengths}
    if rows > 1:
        seen["atten_mask"] = air.const(np.triu(np.ones((CAUSAL, CAUSAL), np.bool_), 1))
    attributes = {
        "num_heads": HEADS,
        "num_key_value_heads": 1,
        "scale": SIZE**-0.5,
        "input_layout": "BSND",
        "sparse_mode": 0 if rows == 1 else 3,
    }
    keys, values = cache_with("past_key.0", "key"), cache_with("past_value.0", "value")
    operands = {"query": looked_up("query", HEADS), "key": [keys], "value": [values], **seen}
    attended = air.op("FusedInferAttentionScore", operands, attributes, outputs=2)
    shape = air.ints(batch * rows, HEADS * SIZE)
    flat = air.op("Reshape", {"x": attended, "shape": shape})
    if rows > 1:
        flat = air.op("GatherV2", {"x": flat, "indices": given["logit_rows"], "axis": zero})
    logits = air.op("MatMul", {"x1": flat, "x2": weights["head"]})
    wide = air.op("Cast", {"x": logits}, {"dst_type": ge_type("float32")})
    return air.save(directory / f"{spec.name}.air", wide)


def _plus(air: Air, value: str, number: int) -> str:
    return air.op("Add", {"x1": value, "x2": air.const(np.array([number], np.int64))})
