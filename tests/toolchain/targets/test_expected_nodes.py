"""Every pass says which nodes it changes, and refuses a graph that has not all of them."""

import re
from pathlib import Path

import onnx_ir as ir
import pytest

from export.expect import NodesError, expect
from export.parameters import parameter_shape, parameters
from profiles import Profile, exported_profile
from runtime.bundle.manifest import GraphSpec
from runtime.bundle.node_names import linears, module_of, norms
from runtime.bundle.reader import Bundle, load_bundle
from toolchain.errors import TargetError
from toolchain.targets.ascend import passes as ascend
from toolchain.targets.ascend.open_seq_len import OpenSeqLen
from toolchain.targets.cpu import passes as cpu
from toolchain.targets.cpu.own_attention import OwnAttention
from toolchain.targets.cpu.quantize_cache import QuantizeCache
from toolchain.targets.pass_list import run_passes

LISTS = {"cpu": cpu.PASSES, "310p3": ascend.PASSES}
QUANTISED = {"cpu": "int4", "310p3": "int8"}
L = 4  # layers of the miniature
# What a pass looks for, and how many of its kind there are.
LOOKED_FOR = {
    "quantize_weights": ("layers.1.self_attn.o_proj/MatMul", 7 * L + 1),
    "float32": ("embed_tokens/Gather", 1),
    "grouped_query_attention": ("layers.2.self_attn.q_proj/MatMul", 4 * L),
    "own_kernels": ("lm_head/MatMul", 1),
    "pack_qkv": ("layers.0.self_attn/GroupQueryAttention", L),
    "free_dimensions": ("norm/Mul_2", 2),
    "fuse_norms": ("layers.0.post_attention_layernorm/Add", 2 * L + 1),
    "weight_quant": ("lm_head/MatMul", 7 * L + 1),
    "npu_rotary_mul": ("layers.2.self_attn/key/rotated", 6 * L),
    "join_products": ("layers.3.mlp.up_proj/MatMul", 5 * L),
    "npu_rms_norm": ("norm/ReduceMean", 2 * L + 1),
    "start_input": ("attention_mask", 2),
    "rows_first_cache": ("value.3", 2 * L),
    "rewrite_attention": ("layers.2.self_attn.o_proj/MatMul", 4 * L),
}
PASSES = [
    pytest.param(target, position, id=each.name)
    for target, passes in LISTS.items()
    for position, each in enumerate(passes)
]


@pytest.fixture(scope="module")
def exported(bundles: Path) -> Bundle:
    return load_bundle(bundles / "small-exported")


def first_graph(bundle: Bundle) -> ir.Model:
    return ir.load(bundle.file(bundle.manifest.graphs[0].path))


def profile_for(bundle: Bundle, target: str) -> Profile:
    changes = {"target": target, "weights": QUANTISED[target]}
    return exported_profile(bundle).model_copy(update=changes)


def rename(graph: ir.Graph, name: str) -> None:
    """Renames a node, an input or an output."""
    [found] = [each for each in (*graph, *graph.inputs, *graph.outputs) if each.name == name]
    found.name = "renamed"


@pytest.mark.parametrize(("target", "position"), PASSES)
def test_a_pass_refuses_a_graph_whose_node_was_renamed(
    target: str, position: int, exported: Bundle
) -> None:
    """It was a bare KeyError, or silently a slower bundle."""
    model, profile = first_graph(exported), profile_for(exported, target)
    *before, tried = LISTS[target][: position + 1]
    run_passes(model, before, exported.manifest, profile)
    name, number = LOOKED_FOR[tried.name]
    rename(model.graph, name)
    with pytest.raises(TargetError) as error:
        run_passes(model, [tried], exported.manifest, profile)
    way_out = tried.instead or f"disable the pass with --without {tried.name}"
    assert re.fullmatch(
        f"the graph has not the nodes that the pass {tried.name} changes; "
        rf"got {number - 1}, without {re.escape(name.rpartition('/')[0])}\S*; allowed: {number}; "
        f"export the bundle again with this version, or {re.escape(way_out)}",
        str(error.value),
    )


@pytest.mark.parametrize(
    "spec",
    [
        GraphSpec(phase="prefill", batch_size=1, seq_len=4, cache_len=0),
        GraphSpec(phase="score", batch_size=1, seq_len=4, cache_len=8),
        GraphSpec(phase="decode", batch_size=2, seq_len=1, cache_len=8),
    ],
    ids=lambda spec: f"{spec.name}_c{spec.cache_len}",
)
def test_every_pass_finds_its_nodes_in_every_kind_of_graph(
    spec: GraphSpec, exported: Bundle
) -> None:
    """With heads that share groups and one table for both ends, which the miniature has not."""
    from export.trace import trace

    other = {"num_hidden_layers": 3, "num_key_value_heads": 2, "tie_word_embeddings": True}
    config = exported.manifest.model.model_copy(update=other)
    manifest = exported.manifest.model_copy(update={"model": config})
    traced = trace(config, spec)
    for target, passes in LISTS.items():
        run_passes(traced.clone(), passes, manifest, profile_for(exported, target))


def test_the_passes_outside_the_lists_refuse_too(exported: Bundle) -> None:
    config, model = exported.manifest.model, first_graph(exported)
    with pytest.raises(NodesError, match=r"got 17, with layers\.0\.self_attn/Reshape; .* 1"):
        OpenSeqLen(config, 2)(model)  # attention as exported names its rows
    with pytest.raises(NodesError, match=r"got 0, without layers\.0\.self_attn/Group.*; .*: 4"):
        QuantizeCache(config, {})(model)
    with pytest.raises(NodesError, match=r"got 0, without layers\.0\.self_attn/Group.*; .*: 4"):
        OwnAttention(config)(model)


def test_one_node_too_many_is_refused_as_well() -> None:
    with pytest.raises(NodesError, match="got 3, with c; allowed: 2"):
        expect(dict.fromkeys("abc"), ["a", "b"])


def test_the_names_are_those_of_the_models_weights(exported: Bundle) -> None:
    config = exported.manifest.model
    shapes = {name: parameter_shape(config, name) for name in parameters(config)}
    matrices = [name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) == 2]
    vectors = [name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) == 1]
    assert ["embed_tokens", *map(module_of, linears(L))] == matrices
    assert norms(L) == vectors
