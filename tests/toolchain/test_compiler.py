"""compile: what it refuses, what it leaves, and that the manifest tells the truth."""

from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime as ort
import pytest

from runtime.bundle.manifest import GraphSpec
from runtime.bundle.reader import load_bundle
from runtime.progress import SILENT
from runtime.sessions.onnx.own_kernels import register_kernels
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.errors import TargetError


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        ("small-fp32", {}, "compiled already"),
        ("small-exported", {"target": "abacus"}, "allowed: cpu"),
        ("small-exported", {"weights": "int3"}, "allowed: int4, int8, fp32"),
    ],
)
def test_what_cannot_be_compiled_is_refused_and_leaves_nothing(
    source: str, options: dict[str, Any], says: str, bundles: Path, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=says):
        compile_bundle(
            load_bundle(bundles / source), tmp_path / "out", Choices(**options), progress=SILENT
        )
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_the_kernel_cannot_run_is_refused(bundles: Path, tmp_path: Path) -> None:
    bundle = load_bundle(bundles / "small-exported")
    first, *rest = bundle.manifest.graphs
    spec = GraphSpec(phase="prefill", batch_size=2, seq_len=4, cache_len=40)
    graphs = (first.model_copy(update={"spec": spec}), *rest)
    object.__setattr__(bundle, "manifest", bundle.manifest.model_copy(update={"graphs": graphs}))
    with pytest.raises(TargetError, match="prefill_b2_s4"):
        compile_bundle(bundle, tmp_path / "out", progress=SILENT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["small-fp32", "talk-int4", "talk-int8"])
def test_graphs_share_one_copy_of_each_weight(name: str, bundles: Path) -> None:
    bundle = load_bundle(bundles / name)
    named: set[str] = set()
    for graph in bundle.manifest.graphs:
        for value in ir.load(bundle.file(graph.path)).graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                named.add(f"graphs/{value.const_value.location}")
    stored = {path for path in bundle.manifest.files if "/weights/" in path}
    assert named == stored
    digests = [bundle.manifest.files[path].sha256 for path in stored]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", ["small-exported", "small-fp32", "talk-int4", "talk-int4-kv8"])
def test_the_manifest_lists_the_inputs_and_outputs_that_the_graphs_have(
    name: str, bundles: Path
) -> None:
    bundle = load_bundle(bundles / name)
    options = ort.SessionOptions()
    if bundle.manifest.kernels is not None:
        register_kernels(options)
    for graph in bundle.manifest.graphs:
        session = ort.InferenceSession(bundle.file(graph.path), options)
        open_sizes: set[tuple[str, int]] = set()
        for specs, actual in (
            (graph.inputs, session.get_inputs()),
            (graph.outputs, session.get_outputs()),
        ):
            assert [tensor.name for tensor in specs] == [tensor.name for tensor in actual]
            for spec, tensor in zip(specs, actual, strict=True):
                for size, dimension in zip(spec.shape, tensor.shape, strict=True):
                    if isinstance(dimension, str):
                        open_sizes.add((dimension, size))
                    else:
                        assert size == dimension
        assert len(dict(open_sizes)) == len(open_sizes), "one size for each open dimension"


def test_int4_takes_four_bits_and_a_scale_per_block_and_eight_for_the_lm_head(
    bundles: Path,
) -> None:
    manifest = load_bundle(bundles / "talk-int4").manifest
    config = manifest.model
    e, f, v = config.hidden_size, config.intermediate_size, config.vocab_size
    layers, head = config.num_hidden_layers * (4 * e * e + 3 * e * f), v * e
    sizes = {
        kind: sum(entry.size for path, entry in manifest.files.items() if f".weight.{kind}" in path)
        for kind in ("int4", "int8")
    }
    scale = 4 if manifest.kernels is None else 2  # bytes
    assert sizes == {"int4": layers // 2 + layers // 32 * scale, "int8": head + head // 32 * scale}
