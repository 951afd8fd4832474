"""The passes for Ascend, each by its numbers."""

import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import Bundle, load_bundle
from runtime.sessions.attention_mask import attention_mask
from toolchain.targets.ascend.npu_rms_norm import PLUGIN_EPSILON, NpuRmsNorm, input_scale
from toolchain.targets.ascend.open_seq_len import OpenSeqLen
from toolchain.targets.ascend.rewrite_attention import MOST_COLUMNS, RewriteAttention
from toolchain.targets.ascend.rows_first_cache import RowsFirstCache
from toolchain.targets.ascend.weight_quant import WeightQuant, quantize_rows


def rms_norm(x: NDArray[np.float32], epsilon: float) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    mean_square: NDArray[np.float64] = (wide * wide).mean(-1, keepdims=True)
    return wide / np.sqrt(mean_square + epsilon)


@pytest.mark.parametrize("epsilon", [1e-5, 1e-6, 1e-8, 1e-3])
@pytest.mark.parametrize("magnitude", [1e-6, 1e-4, 1e-2, 1.0, 1e3, 6e4])
def test_the_scaled_input_gives_the_models_epsilon(epsilon: float, magnitude: float) -> None:
    """The kernel's 1e-6 acts as the model's epsilon to the last digits of float32, even where the
    input is so small that the epsilon decides the result."""
    x = (magnitude * np.random.default_rng(0).standard_normal((64, 128))).astype(np.float32)
    scaled = x * np.float32(input_scale(epsilon))
    ours, theirs = rms_norm(scaled, PLUGIN_EPSILON), rms_norm(x, epsilon)
    assert np.abs(ours / theirs - 1).max() < 4 * np.finfo(np.float32).eps
    if magnitude <= 1e-4 and epsilon != PLUGIN_EPSILON:  # without the factor it would be wrong
        assert np.abs(rms_norm(x, PLUGIN_EPSILON) / theirs - 1).max() > 0.01


@settings(max_examples=50)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 70),
    group=st.sampled_from([1, 7, 32, 64, 100]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_weight_is_within_half_a_level(
    rows: int, columns: int, group: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((rows, columns)) * rng.uniform(1e-3, 1)).astype(np.float16)
    levels, scales = quantize_rows(weight, group)
    assert scales.shape == (rows, -(-columns // group))
    spread = np.repeat(scales.astype(np.float32), group, axis=1)[:, :columns]
    steps = np.repeat(np.spacing(scales).astype(np.float32), group, axis=1)[:, :columns]
    error = np.abs(levels * spread - weight.astype(np.float32))
    # Half a level, and what the largest entry loses where float16 rounds its scale down.
    assert (error <= 0.5 * spread + 127 * steps + 1e-12).all()
    assert np.abs(levels.astype(int)).max() <= 127


def test_zero_weights_stay_zero() -> None:
    levels, scales = quantize_rows(np.zeros((3, 4), np.float16), 2)
    assert not levels.any()
    assert not scales.any()


@pytest.fixture(scope="module")
def exported(bundles: Path) -> Bundle:
    return load_bundle(bundles / "small-exported")


def feeds(graph: Graph, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Random ids after 20 random cached rows."""
    rng, spec = np.random.default_rng(seed), graph.spec
    start = 20
    arrays: dict[str, NDArray[np.generic]] = {
        "input_ids": rng.integers(3, 200, (spec.batch_size, spec.seq_len)),
        "position_ids": np.tile(start + np.arange(spec.seq_len), (spec.batch_size, 1)),
        "attention_mask": attention_mask(spec, np.full(spec.batch_size, start)),
        "logit_rows": np.arange(spec.batch_size) * spec.seq_len + spec.seq_len - 1,
    }
    for tensor in graph.inputs:
        if tensor.name not in arrays:
            arrays[tensor.name] = rng.standard_normal(tensor.shape).astype(np.float16)
    return {tensor.name: arrays[tensor.name] for tensor in graph.inputs}


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("most_columns", [None, 0, MOST_COLUMNS])
def test_cache_passes_give_the_portable_graphs_numbers(
    most_columns: int | None, index: int, exported: Bundle, tmp_path: Path
) -> None:
    """Rows first alone, and attention rewritten: joined, and with the cache as left operand."""
    graph = exported.manifest.graphs[index]
    arrays, config = feeds(graph), exported.manifest.model
    expected = opened(exported.file(graph.path)).run(None, arrays)
    model = ir.load(exported.file(graph.path))
    rewrite = [] if most_columns is None else [RewriteAttention(config, most_columns)]
    ir.passes.Sequential(
        RowsFirstCache(config), *rewrite, RemoveUnusedNodesPass(), TopologicalSortPass()
    )(model)
    swapped = {
        name: array.transpose(0, 2, 1, 3) if name.startswith("past_") else array
        for name, array in arrays.items()
    }
    copied = tmp_path / "graphs"
    found = _run(exported, graph, model, swapped, copied)
    for tensor, wanted in zip(graph.outputs, expected, strict=True):
        ours = found[tensor.name]
        if tensor.name != "logits":
            ours = ours.transpose(0, 2, 1, 3)
        # Float16 sums and scores in another order, in logits between -5 and 5.
        tolerance = 0.1 if rewrite else 0.0
        assert np.abs(ours.astype(np.float32) - wanted.astype(np.float32)).max() <= tolerance


def opened(path: Path) -> ort.InferenceSession:
    """Unoptimised: else float16 sums stay float32 from node to node, and how far is a matter of
    the graph."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options)


def _run(
    bundle: Bundle,
    graph: Graph,
    model: ir.Model,
    arrays: dict[str, NDArray[np.generic]],
    directory: Path,
) -> dict[str, NDArray[np.generic]]:
    shutil.copytree(bundle.file("graphs/weights"), directory / "weights")
    path = directory / Path(graph.path).name
    path.write_bytes(ir.to_proto(model).SerializeToString())
    session = opened(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, arrays), strict=True))


@pytest.mark.parametrize("seq_len", [1, 3, 8])
def test_one_open_graph_computes_every_length(
    seq_len: int, exported: Bundle, tmp_path: Path
) -> None:
    longest = next(graph for graph in exported.manifest.graphs if graph.spec.name == "prefill_s8")
    config = exported.manifest.model
    model = ir.load(exported.file(longest.path))
    ir.passes.Sequential(
        RowsFirstCache(config),
        RewriteAttention(config, most_columns=0),
        RemoveUnusedNodesPass(),
        OpenSeqLen(config, 1),
        RemoveUnusedNodesPass(),
        TopologicalSortPass(),
    )(model)
    whole = feeds(longest)
    cut = {
        **whole,
        "input_ids": whole["input_ids"][:, :seq_len],
        "position_ids": whole["position_ids"][:, :seq_len],
        "attention_mask": whole["attention_mask"][:, :, :seq_len, : 40 + seq_len],
        "logit_rows": np.array([seq_len - 1]),
    }
    rows_first = {
        name: array.transpose(0, 2, 1, 3) if name.startswith("past_") else array
        for name, array in cut.items()
    }
    found = _run(exported, longest, model, rows_first, tmp_path / "graphs")
    expected = dict(
        zip(
            [tensor.name for tensor in longest.outputs],
            opened(exported.file(longest.path)).run(
                None, {**whole, "logit_rows": np.array([seq_len - 1])}
            ),
            strict=True,
        )
    )
    assert np.abs(found["logits"] - expected["logits"]).max() < 0.1
    rows = expected["key.1"].transpose(0, 2, 1, 3)[:, :seq_len]
    assert np.abs(found["key.1"].astype(np.float32) - rows.astype(np.float32)).max() < 0.1


def test_int8_weights_are_made_in_pieces_as_whole(
    exported: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the size of a piece, and with groups or without."""
    from toolchain.targets.weights import StreamedTensor

    def made(block_size: int) -> dict[str, bytes]:
        model = ir.load(exported.file(exported.manifest.graphs[0].path))
        WeightQuant(exported.manifest.model, block_size)(model)
        tensors = [value.const_value for value in model.graph.initializers.values()]
        return {
            str(tensor.name): tensor.tobytes()
            for tensor in tensors
            if isinstance(tensor, StreamedTensor)
        }

    for block_size in (0, 32):
        whole = made(block_size)
        assert whole
        with monkeypatch.context() as patch:
            patch.setattr("toolchain.targets.weights.ROW_BLOCK", 1000)
            assert made(block_size) == whole


def test_norms_become_kernels_and_nothing_of_them_remains(exported: Bundle) -> None:
    model = ir.load(exported.file(exported.manifest.graphs[0].path))
    config = exported.manifest.model
    ir.passes.Sequential(NpuRmsNorm(config), RemoveUnusedNodesPass())(model)
    kinds = [node.op_type for node in model.graph]
    assert kinds.count("NPURmsNorm") == 2 * config.num_hidden_layers + 1
    assert "ReduceMean" not in kinds
    assert "Reciprocal" not in kinds


def test_norms_with_a_smaller_epsilon_than_the_kernels_stay(exported: Bundle) -> None:
    """The factor would be more than 1, and 65,504 is the largest number of the stream."""
    model = ir.load(exported.file(exported.manifest.graphs[0].path))
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.size == 1 and tensor.numpy() == np.float32(1e-5):
            value.const_value = ir.Tensor(np.array(1e-8, np.float32))
    before = [node.name for node in model.graph]
    NpuRmsNorm(exported.manifest.model)(model)
    assert [node.name for node in model.graph] == before


@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 1e3, 6e4])
def test_the_kernel_in_float16_is_as_close_as_the_norm_that_is_written_out(
    magnitude: float,
) -> None:
    """Both round the normal row; one rounds the scaled input besides."""
    rng = np.random.default_rng(0)
    x = np.clip(magnitude * rng.standard_normal((64, 4096)), -65504, 65504).astype(np.float16)
    exact = rms_norm(x.astype(np.float32), 1e-5)
    written_out = exact.astype(np.float16).astype(np.float64)
    scaled = x * np.float16(input_scale(1e-5))
    kernel = rms_norm(scaled.astype(np.float32), PLUGIN_EPSILON).astype(np.float16)
    ours, theirs = (
        np.sqrt(np.mean((each - exact) ** 2)) for each in (kernel.astype(np.float64), written_out)
    )
    assert ours < 1.6 * theirs  # sqrt 2 for two roundings, and the factor's own
