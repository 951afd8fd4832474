"""Each rule refuses the graph that breaks it, naming the node and the rule, and no other graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from runtime.bundle.reader import load_bundle
from toolchain.errors import TargetError
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.ascend.rules.graph_rules import RULES, check_model, registered

HALF, SINGLE, BRAIN = ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.BFLOAT16
INT8, INT4 = ir.DataType.INT8, ir.DataType.INT4


def value(name: str, dtype: ir.DataType, *shape: int | str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def model(
    node: ir.Node, inputs: list[ir.Value], output: tuple[ir.DataType, tuple[int, ...]]
) -> ir.Model:
    result = node.outputs[0]
    result.name, result.type, result.shape = "y", ir.TensorType(output[0]), ir.Shape(output[1])
    for i, extra in enumerate(node.outputs[1:]):
        extra.name, extra.type, extra.shape = f"extra.{i}", ir.TensorType(SINGLE), ir.Shape([1])
    graph = ir.Graph(inputs, [result], nodes=[node], opset_imports={"": 17, "npu": 1}, name="g")
    return ir.Model(graph, ir_version=9)


def matmul(dtype: ir.DataType = HALF, rows: int | str = 4) -> ir.Model:
    inputs = [value("x", dtype, rows, 8), value("w", dtype, 8, 6)]
    return model(ir.node("MatMul", inputs, name="matmul"), inputs, (dtype, (4, 6)))


def quant(
    *,
    x: tuple[int, ...] = (4, 64),
    weight: ir.DataType = INT8,
    scale: tuple[int, ...] = (6,),
    group: int = 0,
    columns: int = 6,
    as_it_is: bool = False,
) -> ir.Model:
    inputs = [
        value("x", HALF, *x),
        value("w", weight, columns, 64),
        value("s", HALF, *scale),
    ]
    turn = ir.node("Transpose", [inputs[1]], {"perm": [1, 0]}, name="turn")
    turned = turn.outputs[0]
    turned.name, turned.type, turned.shape = "t", ir.TensorType(weight), ir.Shape([64, columns])
    given = [inputs[0], inputs[1] if as_it_is else turned, inputs[2]]
    if as_it_is:
        inputs[1].shape = ir.Shape([64, columns])
    attributes = {"antiquant_group_size": group}
    name = "WeightQuantBatchMatmulV2"
    node = ir.node(name, given, attributes, domain="npu", name="quant")
    made = model(node, inputs, (HALF, (4, columns)))
    if not as_it_is:
        made.graph.insert_before(node, turn)
    return made


def norm(gamma: ir.DataType = SINGLE, size: int = 64) -> ir.Model:
    inputs = [value("x", SINGLE, 4, size), value("g", gamma, size)]
    node = ir.node("NPURmsNorm", inputs, domain="npu", num_outputs=2, name="norm")
    return model(node, inputs, (SINGLE, (4, size)))


def rotation(size: int = 64, heads: int = 2, table: tuple[int, ...] = (1, 4, 1, 64)) -> ir.Model:
    inputs = [
        value("x", HALF, 1, 4, heads, size),
        value("c", HALF, *table),
        value("s", HALF, *table),
    ]
    node = ir.node("NPURotaryMul", inputs, domain="npu", name="turn")
    return model(node, inputs, (HALF, (1, 4, heads, size)))


def attention(rows: int, cached: int, masked: bool) -> ir.Model:
    inputs = [
        value("q", HALF, 1, 2, rows, 64),
        value("k", HALF, 1, 2, cached, 64),
        value("v", HALF, 1, 2, cached, 64),
        value("m", ir.DataType.BOOL, 1, 1, rows, cached),
    ]
    given = [*inputs[:3], None, inputs[3] if masked else None]
    attributes: dict[str, int | str] = {"num_heads": 2, "input_layout": "BNSD"}
    name = "NPUPromptFlashAttention"
    node = ir.node(name, given, attributes, domain="npu", name="flash")
    return model(node, inputs, (HALF, (1, 2, rows, 64)))


def one(op_type: str, domain: str = "", opset: int = 17) -> ir.Model:
    inputs = [value("x", HALF, 4, 8)]
    found = model(ir.node(op_type, inputs, domain=domain, name="it"), inputs, (HALF, (4, 8)))
    found.opset_imports[""] = opset
    return found


def without_inputs() -> ir.Model:
    made = matmul()
    made.graph.inputs.clear()
    return made


Make = Callable[[], ir.Model]
REFUSED: tuple[tuple[str, str, Make, str], ...] = (
    (
        "310p3",
        "the opset has parsers",
        lambda: one("Sigmoid", opset=19),
        "got 19; allowed: 8 to 18",
    ),
    ("310p3", "the graph has inputs and outputs", without_inputs, "inputs .* got none"),
    (
        "310p3",
        "every operator is registered",
        lambda: one("Gelu"),
        "ai.onnx::17::Gelu; .* no version",
    ),
    (
        "310p3",
        "every operator is registered",
        lambda: one("LayerNormalization", opset=16),
        "ai.onnx::16::LayerNormalization; allowed: 17, 18",
    ),
    ("310p3", "every operator is registered", lambda: one("X", "com.microsoft"), "com.microsoft"),
    ("310p3", "every type exists on the chip", lambda: matmul(BRAIN), "value x .* got BFLOAT16"),
    ("310p3", "every shape is static", lambda: matmul(rows="n"), "value x .* allowed: static"),
    ("310p3", "products are of types", lambda: matmul(SINGLE), "node matmul .* allowed: FLOAT16"),
    ("310b1", "every kernel exists on the chip", quant, "no such kernel on Ascend310B1"),
    ("310p3", "every type exists on the chip", lambda: quant(weight=INT4), "value w"),
    ("910b3", "WeightQuantBatchMatmulV2 takes", lambda: quant(x=(1, 4, 64)), "x of node quant"),
    (
        "910b3",
        "WeightQuantBatchMatmulV2 takes",
        lambda: quant(group=48),
        "got 48; .* multiple of 32",
    ),
    ("910b3", "WeightQuantBatchMatmulV2 takes", lambda: quant(group=64), "below 64"),
    ("910b3", "WeightQuantBatchMatmulV2 takes", lambda: quant(scale=(2, 6)), "scale of node"),
    (
        "310p3",
        "WeightQuantBatchMatmulV2 takes",
        lambda: quant(columns=65536, scale=(65536,)),
        "up to 65535",
    ),
    (
        "310p3",
        "WeightQuantBatchMatmulV2 takes",
        lambda: quant(as_it_is=True),
        "weight of node quant .* allowed: behind a Transpose",
    ),
    ("310p3", "NPURmsNorm takes its inputs", lambda: norm(HALF), "node norm"),
    ("310p3", "NPURmsNorm takes its inputs", lambda: norm(size=4), "rows of 4; allowed: 32 bytes"),
    ("310b1", "every kernel exists on the chip", norm, "no such kernel on Ascend310B1"),
    (
        "310p3",
        "NPURotaryMul takes its inputs",
        lambda: rotation(size=32, table=(1, 4, 1, 32)),
        "x of node turn .* got .*32",
    ),
    ("310p3", "NPURotaryMul takes its inputs", lambda: rotation(heads=1001), "up to 1000"),
    (
        "910b3",
        "NPURotaryMul takes its inputs",
        lambda: rotation(table=(1, 1, 4, 64)),
        "table of node turn",
    ),
)


@pytest.mark.parametrize(("target", "rule", "make", "message"), REFUSED)
def test_what_breaks_a_rule_is_refused_by_name(
    target: str, rule: str, make: Make, message: str
) -> None:
    with pytest.raises(TargetError, match=message) as caught:
        check_model(make(), CHIPS[target], "prefill_s4")
    said = f"breaks a rule of {CHIPS[target].soc_name}: {rule}"
    assert str(caught.value).startswith("prefill_s4: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("target", "make"),
    [
        ("310p3", matmul),
        ("910b3", lambda: matmul(SINGLE)),
        ("310p3", quant),
        ("310p3", lambda: quant(group=32, scale=(2, 6))),
        ("910b3", lambda: quant(as_it_is=True)),
        ("310p3", norm),
        ("310p3", rotation),
        ("310p3", lambda: one("LayerNormalization", opset=17)),
    ],
)
def test_what_breaks_none_is_taken(target: str, make: Make) -> None:
    check_model(make(), CHIPS[target], "graph")


def test_flash_attention_with_a_mask_wants_equal_multiples_of_128_on_a_310p() -> None:
    """Its opset is 16 at most for ai.onnx, and 1 for npu."""
    check_model(attention(128, 128, masked=True), CHIPS["310p3"], "graph")
    check_model(attention(64, 192, masked=True), CHIPS["910b3"], "graph")
    with pytest.raises(TargetError, match="a mask with 64 and 192 rows"):
        check_model(attention(64, 192, masked=True), CHIPS["310p3"], "graph")


@pytest.mark.parametrize("name", ["talk", "small"])
def test_the_portable_graphs_break_none_on_any_chip(name: str, bundles: Path) -> None:
    bundle = load_bundle(bundles / f"{name}-exported")
    for graph in bundle.manifest.graphs:
        exported = ir.load(bundle.file(graph.path))
        for chip in CHIPS.values():
            check_model(exported, chip, graph.spec.name)


def test_the_table_of_operators_is_the_one_that_was_gathered() -> None:
    table = registered()
    assert len(table) > 300
    assert table["MatMul"] == list(range(8, 19))
    assert table["npu::WeightQuantBatchMatmulV2"] == [1]
    assert "QuantizeLinear" not in table
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert np.all([versions == sorted(versions) for versions in table.values()])
