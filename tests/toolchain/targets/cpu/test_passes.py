"""Each pass of the cpu target against the graph without it."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_ir.passes.common import RemoveUnusedNodesPass

from profiles import load_profile
from runtime.bundle.manifest import Graph, ModelConfig
from runtime.bundle.reader import Bundle, load_bundle
from runtime.bundle.rope import YarnRope
from runtime.sessions.attention_mask import attention_mask
from tests.paths import DATA
from toolchain.targets.cpu.blocks import dequantize_blocks, quantize_blocks
from toolchain.targets.cpu.float32 import Float32
from toolchain.targets.cpu.free_dimensions import FreeDimensions
from toolchain.targets.cpu.fuse_norms import FuseNorms
from toolchain.targets.cpu.grouped_query_attention import GroupedQueryAttention, rotary_tables
from toolchain.targets.cpu.pack_qkv import PackQkv
from toolchain.targets.cpu.quantize_weights import QuantizeWeights

CACHED = 5  # rows in the cache before the run
ROWS = 48  # of a buffer that is updated in place: 40 cached and 8 new at most


@pytest.fixture(scope="module")
def exported(bundles: Path) -> Bundle:
    return load_bundle(bundles / "small-exported")


def graph_of(bundle: Bundle, name: str) -> Graph:
    return next(graph for graph in bundle.manifest.graphs if graph.spec.name == name)


def lowered(bundle: Bundle, graph: Graph, *passes: ir.passes.InPlacePass) -> ir.Model:
    model = ir.load(bundle.file(graph.path))
    ir.passes.Sequential(*passes, RemoveUnusedNodesPass())(model)
    return model


def quantized(config: ModelConfig, bits: int) -> QuantizeWeights:
    """Every layer and the head alike, with one scale for 32 inputs."""
    profile = load_profile(str(DATA / "small.toml"))
    changes = {"weights": f"int{bits}", "block_size": 32, "recipes": {"int4": {}}}
    return QuantizeWeights(config, profile.model_copy(update=changes))


def feeds(bundle: Bundle, graph: Graph) -> dict[str, np.ndarray]:
    """Random inputs of a portable graph; CACHED rows of the past are valid."""
    rng, spec = np.random.default_rng(0), graph.spec
    starts = np.full(spec.batch_size, CACHED)
    arrays: dict[str, np.ndarray] = {
        "input_ids": rng.integers(0, 600, (spec.batch_size, spec.seq_len)),
        "position_ids": starts[:, None] + np.arange(spec.seq_len),
        "attention_mask": attention_mask(spec, starts),
        "logit_rows": np.arange(spec.batch_size) * spec.seq_len + spec.seq_len - 1,
    }
    for tensor in graph.inputs:
        if tensor.name.startswith("past_"):
            past = np.zeros(tensor.shape, np.float16)
            past[:, :, :CACHED] = rng.normal(size=past[:, :, :CACHED].shape)
            arrays[tensor.name] = past
    return {tensor.name: arrays[tensor.name] for tensor in graph.inputs}


def run(model: ir.Model, inputs: dict[str, np.ndarray], directory: Path) -> dict[str, np.ndarray]:
    """Runs a model on ONNX Runtime with its lazy tensors written inside the file."""
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.LazyTensor | ir.ExternalTensor):
            value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    ir.save(model, directory / "model.onnx")
    session = ort.InferenceSession(directory / "model.onnx")
    types: dict[str, np.dtype[np.generic]] = {
        "tensor(float)": np.dtype(np.float32),
        "tensor(int32)": np.dtype(np.int32),
    }
    cast = {
        item.name: inputs[item.name].astype(types.get(item.type, inputs[item.name].dtype))
        for item in session.get_inputs()
    }
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(None, cast), strict=True))


@pytest.mark.parametrize("name", ["prefill_s8", "score_s8", "decode_b1", "decode_b3"])
def test_float32_computes_what_the_float16_graph_computes(
    name: str, exported: Bundle, tmp_path: Path
) -> None:
    graph = graph_of(exported, name)
    inputs = feeds(exported, graph)
    before = run(lowered(exported, graph), inputs, tmp_path)
    model = lowered(exported, graph, Float32())
    after = run(model, inputs, tmp_path)
    assert not any(node.op_type == "Cast" and _between_floats(node) for node in model.graph)
    for output, expected in before.items():
        np.testing.assert_allclose(after[output], expected, atol=0.05, err_msg=output)
        assert after[output].dtype == np.float32


def _between_floats(node: ir.Node) -> bool:
    source = node.inputs[0]
    assert source is not None
    return source.dtype != ir.DataType.INT64 and node.name != "embed_tokens/Cast"


def in_place(graph: Graph, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same inputs for a graph that appends to the cache: buffers of ROWS rows, and lengths."""
    spec = graph.spec
    for tensor in graph.inputs:
        if tensor.name.startswith("past_"):
            padding = ((0, 0), (0, 0), (0, ROWS - tensor.shape[2]), (0, 0))
            inputs[tensor.name] = np.pad(inputs[tensor.name], padding)
    inputs["seqlens_k"] = np.full(spec.batch_size, CACHED + spec.seq_len - 1)
    inputs["total_sequence_length"] = np.array([CACHED + spec.seq_len])
    return inputs


@pytest.mark.parametrize("name", ["prefill_s8", "score_s8", "decode_b1", "decode_b3"])
def test_grouped_query_attention_equals_the_written_out_attention(
    name: str, exported: Bundle, tmp_path: Path
) -> None:
    graph, config = graph_of(exported, name), exported.manifest.model
    inputs = feeds(exported, graph)
    before = run(lowered(exported, graph, Float32()), inputs, tmp_path)
    seq_len, inputs = graph.spec.seq_len, in_place(graph, inputs)
    model = lowered(exported, graph, Float32(), GroupedQueryAttention(config, ROWS))
    after = run(model, inputs, tmp_path)
    kernels = [node for node in model.graph if node.op_type == "GroupQueryAttention"]
    assert len(kernels) == config.num_hidden_layers
    assert not any(node.op_type == "Softmax" for node in model.graph)
    np.testing.assert_allclose(after["logits"], before["logits"], atol=2e-4)
    for i in range(config.num_hidden_layers):
        for kind in ("key", "value"):
            new = after[f"{kind}.{i}"][:, :, CACHED : CACHED + seq_len]
            np.testing.assert_allclose(new, before[f"{kind}.{i}"], atol=1e-4)


@pytest.mark.parametrize("made_from", ["prefill_s8", "score_s8", "decode_b3"])
@pytest.mark.parametrize("name", ["prefill_s4", "score_s8", "decode_b1", "decode_b3"])
def test_any_graph_with_free_dimensions_computes_every_other_graph(
    name: str, made_from: str, exported: Bundle, tmp_path: Path
) -> None:
    config = exported.manifest.model
    fixed = [Float32(), GroupedQueryAttention(config, ROWS)]
    graph = graph_of(exported, name)
    spec = graph.spec
    inputs = in_place(graph, feeds(exported, graph))
    expected = run(lowered(exported, graph, *fixed), inputs, tmp_path)
    if "logit_rows" not in inputs:
        inputs["logit_rows"] = np.arange(spec.batch_size * spec.seq_len)
    free = lowered(exported, graph_of(exported, made_from), *fixed, FreeDimensions())
    results = run(free, inputs, tmp_path)
    logits = results["logits"].reshape(expected["logits"].shape)
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    np.testing.assert_allclose(results["key.1"], expected["key.1"], atol=1e-5)


def test_a_fused_norm_is_the_written_out_norm(exported: Bundle, tmp_path: Path) -> None:
    graph = graph_of(exported, "score_s8")
    inputs = feeds(exported, graph)
    expected = run(lowered(exported, graph, Float32()), inputs, tmp_path)
    model = lowered(exported, graph, Float32(), FuseNorms(exported.manifest.model))
    kernels = [node for node in model.graph if node.op_type == "SimplifiedLayerNormalization"]
    assert len(kernels) == 2 * exported.manifest.model.num_hidden_layers + 1
    assert not any(node.op_type == "ReduceMean" for node in model.graph)
    for output, values in run(model, inputs, tmp_path).items():
        np.testing.assert_allclose(values, expected[output], atol=1e-4, err_msg=output)


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_products_are_the_products_one_by_one(
    bits: int, exported: Bundle, tmp_path: Path
) -> None:
    graph, config = graph_of(exported, "decode_b3"), exported.manifest.model
    inputs = in_place(graph, feeds(exported, graph))
    passes = [
        quantized(config, bits),
        Float32(),
        GroupedQueryAttention(config, ROWS),
    ]
    expected = run(lowered(exported, graph, *passes), inputs, tmp_path)
    model = lowered(exported, graph, *passes, PackQkv(config))
    products = [node for node in model.graph if node.op_type == "MatMulNBits"]
    assert len(products) == 5 * config.num_hidden_layers + 1
    for output, values in run(model, inputs, tmp_path).items():
        np.testing.assert_allclose(values, expected[output], atol=1e-5, err_msg=output)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_products_equal_products_with_the_dequantised_weights(
    bits: int, exported: Bundle, tmp_path: Path
) -> None:
    graph, config = graph_of(exported, "prefill_s8"), exported.manifest.model
    inputs = feeds(exported, graph)
    model = lowered(exported, graph, quantized(config, bits), Float32())
    linears = [node for node in model.graph if node.op_type == "MatMulNBits"]
    assert len(linears) == 7 * config.num_hidden_layers + 1
    for node in linears:  # compute in float32, so that only the weights differ
        node.attributes.add(ir.AttrInt64("accuracy_level", 1))
    expected = lowered(exported, graph, Float32())
    for name, value in expected.graph.initializers.items():
        if name.endswith(".transposed"):
            assert value.const_value is not None
            packed, scales = quantize_blocks(value.const_value.numpy().T, bits, 32)
            value.const_value = ir.Tensor(
                np.ascontiguousarray(dequantize_blocks(packed, scales, bits).T), name=name
            )
    got, wanted = run(model, inputs, tmp_path), run(expected, inputs, tmp_path)
    for output in wanted:
        np.testing.assert_allclose(got[output], wanted[output], atol=1e-3, err_msg=output)


@given(
    bits=st.sampled_from([4, 8]),
    num_columns=st.integers(1, 70),
    block_size=st.sampled_from([16, 32]),
    seed=st.integers(0, 2**32 - 1),
)
def test_quantisation_is_no_further_off_than_q4_0_in_any_block(
    bits: int, num_columns: int, block_size: int, seed: int
) -> None:
    weight = np.random.default_rng(seed).normal(size=(3, num_columns)).astype(np.float32)
    weight[0] = 0
    packed, scales = quantize_blocks(weight, bits, block_size)
    assert packed.shape == (3, -(-num_columns // block_size), block_size * bits // 8)
    restored = dequantize_blocks(packed, scales, bits)[:, :num_columns]
    assert (restored[0] == 0).all()
    for start in range(0, num_columns, block_size):
        block = weight[1:, start : start + block_size]
        error = ((block - restored[1:, start : start + block_size]) ** 2).sum(1)
        assert (error <= squared_error_of_q4_0(block, bits) * 1.001).all()


def squared_error_of_q4_0(block: np.ndarray, bits: int) -> np.ndarray:
    """ggml's form: the entry of largest magnitude lies on the lowest level."""
    lowest = -(2 ** (bits - 1))
    largest = np.take_along_axis(block, np.abs(block).argmax(1)[:, None], axis=1)
    scale = largest / lowest
    levels = np.clip(np.rint(block / scale), lowest, -lowest - 1)
    error: np.ndarray = ((block - levels * scale) ** 2).sum(1)
    return error


def test_the_packing_is_the_one_that_the_kernel_reads() -> None:
    weight = np.random.default_rng(0).normal(size=(16, 64)).astype(np.float32)
    for bits in (4, 8):
        packed, scales = quantize_blocks(weight, bits, 32)
        x = ir.Value(name="x", shape=ir.Shape([64, 64]), type=ir.TensorType(ir.DataType.FLOAT))
        constants = [
            ir.Value(name=name, const_value=ir.Tensor(array, name=name))
            for name, array in (("levels", packed), ("scales", scales))
        ]
        node = ir.node(
            "MatMulNBits",
            [x, *constants],
            {"K": 64, "N": 16, "bits": bits, "block_size": 32},
            domain="com.microsoft",
        )
        node.outputs[0].name, node.outputs[0].dtype = "y", ir.DataType.FLOAT
        graph = ir.Graph(
            [x], node.outputs, nodes=[node], initializers=constants,
            opset_imports={"": 17, "com.microsoft": 1}, name="one",
        )  # fmt: skip
        proto = ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString()
        session = ort.InferenceSession(proto)
        [product] = session.run(None, {"x": np.eye(64, dtype=np.float32)})
        np.testing.assert_allclose(product.T, dequantize_blocks(packed, scales, bits), atol=1e-6)


def test_the_rotary_tables_are_torchs_angles(exported: Bundle) -> None:
    import torch

    from export.layers import RotaryEmbedding
    from export.positions import inverse_frequencies

    scaling = YarnRope(factor=4.0, original_max_position_embeddings=64, attention_factor=1.25)
    config = exported.manifest.model.model_copy(update={"rope_scaling": scaling})
    cos, sin = RotaryEmbedding(config)(torch.arange(200)[None])
    tables = rotary_tables(inverse_frequencies(config).numpy(), 1.25, 200)
    np.testing.assert_allclose(tables[0], cos[0, 0].numpy(), atol=1e-6)
    np.testing.assert_allclose(tables[1], sin[0, 0].numpy(), atol=1e-6)
