"""Claims about export.trace and export.passes: every graph is static, portable and weightless."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from export.graphs import graph_inputs, graph_outputs
from export.parameters import parameters
from export.passes.lower_opset import LowerOpset
from export.trace import trace
from runtime.bundle.manifest import GraphSpec, Phase
from runtime.bundle.rope import LinearRope
from tests.models import TINY
from tests.paths import ROOT

OPS = ROOT / "toolchain/targets/ascend/rules/atc_onnx_ops.json"
OPSET = 17
FLOAT16, FLOAT32 = ir.DataType.FLOAT16, ir.DataType.FLOAT
EPS = 1.25e-6  # no float16
MEGABYTE = 2**20

# No two sizes of a tensor are equal, and heads are wider than the hidden size divides into.
CONFIG = TINY.model_copy(
    update={
        "vocab_size": 50,
        "hidden_size": 36,
        "intermediate_size": 20,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 8,
        "rms_norm_eps": EPS,
        "rope_scaling": LinearRope(factor=2.5),
    }
)


def graph_spec(phase: Phase, batch_size: int, seq_len: int, cache_len: int) -> GraphSpec:
    return GraphSpec(phase=phase, batch_size=batch_size, seq_len=seq_len, cache_len=cache_len)


PREFILL = graph_spec("prefill", 1, 4, 10)
PREFILL_ALONE = graph_spec("prefill", 1, 4, 0)
DECODE, DECODE_2 = graph_spec("decode", 1, 1, 10), graph_spec("decode", 2, 1, 10)
SCORE = graph_spec("score", 1, 4, 10)
SPECS = [PREFILL, PREFILL_ALONE, DECODE, DECODE_2, SCORE]

Traced = tuple[GraphSpec, ir.Model]


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: spec.name)
def traced(request: pytest.FixtureRequest) -> Traced:
    return request.param, trace(CONFIG, request.param)


@pytest.fixture(scope="module")
def registered() -> dict[str, list[int]]:
    """Operators that ATC registers, each with its opsets."""
    table: dict[str, list[int]] = json.loads(OPS.read_text())
    return table


def shape_of(value: ir.Value) -> tuple[int, ...]:
    assert value.shape is not None, f"{value.name} has no shape"
    assert value.shape.is_static(), f"{value.name} is {value.shape}"
    return tuple(value.shape.numpy())


def describe(values: Iterable[ir.Value]) -> list[tuple[str | None, str, tuple[int, ...]]]:
    return [(v.name, str(v.dtype), shape_of(v)) for v in values]


def values_of(model: ir.Model) -> list[ir.Value]:
    graph = model.graph
    computed = [value for node in graph for value in node.outputs]
    return [*graph.inputs, *graph.initializers.values(), *computed]


def unregistered(model: ir.Model, table: dict[str, list[int]]) -> set[str]:
    """Operators of a graph that ATC does not take at its opset."""
    opset = model.graph.opset_imports[""]
    return {f"{n.domain}:{n.op_type}" for n in model.graph if n.domain} | {
        node.op_type for node in model.graph if opset not in table.get(node.op_type, [])
    }


def test_inputs_and_outputs_are_those_of_the_table(traced: Traced) -> None:
    spec, model = traced
    promised = [
        [(t.name, {"float32": "FLOAT"}.get(t.dtype, t.dtype.upper()), t.shape) for t in side]
        for side in (graph_inputs(CONFIG, spec), graph_outputs(CONFIG, spec))
    ]
    assert [describe(model.graph.inputs), describe(model.graph.outputs)] == promised


def test_the_table_is_the_one_of_the_design() -> None:
    rows = [f"past_{kind}.{i}" for i in range(3) for kind in ("key", "value")]
    ids, chosen = ["input_ids", "position_ids", "attention_mask"], "logit_rows"
    inputs = {spec: [t.name for t in graph_inputs(CONFIG, spec)] for spec in SPECS}
    assert inputs == {
        PREFILL: [*ids, chosen, *rows],
        PREFILL_ALONE: [*ids, chosen],
        DECODE: [*ids, *rows],
        DECODE_2: [*ids, *rows],
        SCORE: [*ids, *rows],
    }
    by_name = {tensor.name: tensor.shape for tensor in graph_inputs(CONFIG, PREFILL)}
    assert by_name["attention_mask"] == (1, 1, 4, 14)
    assert by_name["past_key.0"] == (1, 3, 10, 8)
    logits, *new_rows = graph_outputs(CONFIG, DECODE_2)
    assert logits.shape == (2, 50)
    assert [(t.name, t.shape) for t in new_rows] == [
        (name.removeprefix("past_"), (2, 3, 1, 8)) for name in rows
    ]
    assert graph_outputs(CONFIG, SCORE)[0].shape == (1, 4, 50)


def test_every_value_has_a_type_and_a_static_shape(traced: Traced) -> None:
    for value in values_of(traced[1]):
        assert value.dtype is not None, f"{value.name} has no type"
        assert all(size > 0 for size in shape_of(value)), f"{value.name} is empty"


def test_the_graph_is_opset_17_of_plain_onnx(traced: Traced) -> None:
    model = traced[1]
    assert (dict(model.graph.opset_imports), model.ir_version) == ({"": OPSET}, 8)
    assert {node.domain for node in model.graph} == {""}
    assert not model.functions


def test_atc_registers_every_operator(traced: Traced, registered: dict[str, list[int]]) -> None:
    assert unregistered(traced[1], registered) == set()


@pytest.mark.parametrize("op_type", ["MatMulInteger", "DynamicQuantizeLinear", "Gelu"])
def test_an_operator_that_atc_lacks_would_be_found(
    registered: dict[str, list[int]], op_type: str
) -> None:
    source = ir.Value(name="x")
    node = ir.node(op_type, [source])
    graph = ir.Graph([source], node.outputs, nodes=[node], opset_imports={"": OPSET})
    assert unregistered(ir.Model(graph, ir_version=8), registered) == {op_type}


@pytest.mark.parametrize("op_type", ["Pad", "Split", "Resize", "Mish", "BitwiseAnd"])
def test_lowering_refuses_what_opset_17_has_not_or_not_the_same(op_type: str) -> None:
    source = ir.Value(name="x")
    node = ir.node(op_type, [source], name="planted")
    graph = ir.Graph([source], node.outputs, nodes=[node], opset_imports={"": 18})
    with pytest.raises(ir.passes.PassError, match=rf"{op_type} \(planted\) differs"):
        LowerOpset().call(ir.Model(graph, ir_version=10))


def test_names_are_unique(traced: Traced) -> None:
    model = traced[1]
    for names in ([n.name for n in model.graph], [v.name for v in values_of(model)]):
        assert None not in names
        assert len(set(names)) == len(names)


def test_nodes_are_named_for_their_modules(traced: Traced) -> None:
    nodes = {node.name: node for node in traced[1].graph}
    projections = [f"self_attn.{name}_proj" for name in "qkvo"]
    projections += [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    layers = [f"layers.{i}.{name}" for i in range(3) for name in projections]
    for module in [*layers, "lm_head"]:
        (weight,) = {v.name for v in ancestors(nodes[f"{module}/MatMul"].inputs[1])}
        assert weight == f"{module}.weight"
    assert {"embed_tokens/Gather", "rotary_emb/Cos", "layers.2.self_attn/Softmax"} <= set(nodes)


def ancestors(value: ir.Value | None) -> set[ir.Value]:
    """The graph inputs and initializers that a value is computed from."""
    seen, waiting = set(), [value]
    while waiting:
        current = waiting.pop()
        if current is not None and current not in seen:
            seen.add(current)
            node = current.producer()
            waiting += node.inputs if node is not None else []
    return {value for value in seen if value.producer() is None}


def test_the_residual_stream_after_each_layer_has_a_name(traced: Traced) -> None:
    spec, model = traced
    by_name = {value.name: value for value in values_of(model)}
    for i in range(3):
        stream = by_name[f"hidden.{i}"]
        assert shape_of(stream) == (spec.batch_size, spec.seq_len, 36)
        weights = {v.name for v in ancestors(stream) if "weight" in (v.name or "")}
        layers = {f"layers.{j}." for j in range(i + 1)}
        own = {name for name in parameters(CONFIG) if name[:9] in layers}
        assert weights == own | {"embed_tokens.weight"}


def test_products_are_float16_and_norms_softmax_and_angles_float32_of_exact_constants(
    traced: Traced,
) -> None:
    model = traced[1]
    types = {"MatMul": FLOAT16, "Softmax": FLOAT32, "ReduceMean": FLOAT32}
    for op_type, dtype in {**types, "Cos": FLOAT32, "Sin": FLOAT32}.items():
        nodes = [node for node in model.graph if node.op_type == op_type]
        assert nodes, op_type
        values = [v for node in nodes for v in (*node.inputs, *node.outputs) if v is not None]
        assert {value.dtype for value in values} == {dtype}
    initializers = model.graph.initializers.values()
    constants = [v.const_value for v in initializers if v.dtype == FLOAT32]
    epsilon, scale = np.float32(EPS), np.float32(8**-0.5)
    frequencies = np.array([1.0, 0.1, 0.01, 0.001]) / 2.5
    for number in (epsilon, scale, frequencies):
        found = [t.numpy() for t in constants if t is not None and t.size == np.size(number)]
        assert any(np.allclose(value, number, rtol=1e-6, atol=0) for value in found), number


def test_weights_are_references_and_the_graph_is_small(traced: Traced) -> None:
    initializers = traced[1].graph.initializers
    weights = {k: v.const_value for k, v in initializers.items() if ".weight" in k}
    assert sorted(weights) == sorted(parameters(CONFIG))
    for name, tensor in weights.items():
        assert isinstance(tensor, ir.ExternalTensor)
        assert (tensor.location, tensor.dtype) == (f"weights/{name}", FLOAT16)
        assert tensor.length == 2 * tensor.size
    inside = [v.const_value for k, v in initializers.items() if k not in weights]
    assert sum(tensor.nbytes for tensor in inside if tensor is not None) < 4096


def test_tracing_twice_gives_the_same_bytes() -> None:
    first, second = (ir.to_proto(trace(CONFIG, DECODE_2)).SerializeToString() for _ in range(2))
    assert first == second


def test_a_model_of_half_a_pebibyte_is_traced_into_less_than_a_megabyte() -> None:
    huge = CONFIG.model_copy(update={"hidden_size": 4096, "vocab_size": 2**36})  # no address fits
    model = trace(huge, DECODE)
    assert shape_of(model.graph.initializers["lm_head.weight"]) == (2**36, 4096)
    assert len(ir.to_proto(model).SerializeToString()) < MEGABYTE


def test_onnx_accepts_every_exported_file(bundles: Path) -> None:
    graphs = sorted((bundles / "small-exported/graphs").glob("*.onnx"))
    assert len(graphs) == 5
    for graph in graphs:
        onnx.checker.check_model(graph, full_check=True)
        assert graph.stat().st_size < MEGABYTE
