"""Claims about the count of a lowered graph: by hand where it is small, else by sizes."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from export.trace import trace
from profiles import exported_profile, load_profile
from runtime.bundle.manifest import GraphSpec, ModelConfig
from runtime.bundle.reader import load_bundle
from tests.models import SEVEN_B, TINY, bare_manifest
from toolchain.choices import Choices
from toolchain.costs.rates import Rates
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.ascend.footprint import linear_bytes
from toolchain.targets.ascend.lower import lower
from toolchain.targets.ascend.passes import ascend_passes
from toolchain.targets.ascend.traffic import LAUNCH_SECONDS, Kernel, kernels, seconds
from toolchain.targets.pass_list import run_passes

ATTENTION = """
<ir_version: 8, opset_import: ["" : 17]>
small (float16[2,4] x, float16[3,4] cache, int64[2] rows,
       float16[4,4] weight, int64[2] shape, float16[6,4] table) => (float16[2,4] out)
{
  [turn] weight_t = Transpose <perm = [1, 0]> (weight)
  [linear] q = MatMul (x, weight_t)
  [view] q2 = Reshape (q, shape)
  [keys] cache_t = Transpose <perm = [1, 0]> (cache)
  [scores] s = MatMul (q2, cache_t)
  [square] s2 = Mul (s, s)
  [values] mixed = MatMul (s2, cache)
  [angles] picked = Gather (table, rows)
  [gemm] g = Gemm <transA = 1> (s2, s2)
  [add] out = Add (mixed, picked)
}
"""
SHAPES = {
    "weight_t": (4, 4), "q": (2, 4), "q2": (2, 4), "cache_t": (4, 3),
    "s": (2, 3), "s2": (2, 3), "g": (3, 3), "mixed": (2, 4), "picked": (2, 4),
}  # fmt: skip
# Two bytes a number: what each kernel reads and writes.
BY_HAND = [
    ("linear", "MatMul", 2 * (8 + 16 + 8), 2 * 2 * 4 * 4),
    ("keys", "Transpose", 2 * (12 + 12), 0),
    ("scores", "MatMul", 2 * (8 + 12 + 6), 2 * 2 * 3 * 4),
    ("square", "Mul", 2 * (6 + 6), 0),  # its two factors are one tensor
    ("values", "MatMul", 2 * (6 + 12 + 8), 2 * 2 * 4 * 3),
    ("angles", "Gather", 2 * (8 + 8), 0),  # the table is not read whole
    ("gemm", "Gemm", 2 * (6 + 9), 2 * 3 * 3 * 2),
    ("add", "Add", 2 * (8 + 8 + 8), 0),
]


def small() -> ir.Model:
    model = ir.from_onnx_text(ATTENTION)
    for value in list(model.graph.inputs)[3:]:  # weight, shape and table are constants
        assert value.shape is not None
        assert value.dtype is not None
        model.graph.inputs.remove(value)
        value.const_value = ir.Tensor(np.zeros(value.shape.numpy(), value.dtype.numpy()))
        model.graph.register_initializer(value)
    for node in model.graph:
        for value in node.outputs:
            value.shape = ir.Shape(SHAPES.get(str(value.name), (2, 4)))
            value.dtype = ir.DataType.FLOAT16
    return model


def as_tuples(counted: list[Kernel]) -> list[tuple[str, str, int, int]]:
    return [(k.node, k.op_type, k.num_bytes, k.operations) for k in counted]


def test_every_kernel_is_counted_as_by_hand() -> None:
    assert as_tuples(kernels(small(), CHIPS["910b3"])) == BY_HAND


def test_a_310p_converts_a_computed_right_factor_but_no_weight() -> None:
    counted = as_tuples(kernels(small(), CHIPS["310p3"]))
    converted = {"scores": 12, "values": 12, "gemm": 6}
    added = [(name, "TransData", 2 * 2 * size, 0) for name, size in converted.items()]
    assert sorted(counted) == sorted(BY_HAND + added)


def test_kernels_take_their_longer_time_one_after_the_other() -> None:
    rates = Rates(bandwidth=10.0, operations=100.0, source="")
    counted = [
        Kernel(node="a", op_type="Add", num_bytes=30),
        Kernel(node="b", op_type="MatMul", num_bytes=10, operations=500),
    ]
    assert seconds(counted, rates) == pytest.approx(3 + 5 + 2 * LAUNCH_SECONDS)


def count(config: ModelConfig, name: str, weights: str, spec: GraphSpec) -> list[Kernel]:
    profile = Choices(weights=weights).apply(load_profile(name))
    model = trace(config, spec)
    run_passes(model, ascend_passes(profile, ()), bare_manifest(config, ()), profile)
    return kernels(model, CHIPS[profile.target])


DECODE = GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=48)
PREFILL = GraphSpec(phase="prefill", batch_size=1, seq_len=16, cache_len=48)


@pytest.mark.parametrize("spec", [DECODE, PREFILL])
@pytest.mark.parametrize("weights", ["fp16", "int8"])
@pytest.mark.parametrize("name", ["310p3", "910b3"])
def test_every_further_layer_adds_the_same(name: str, weights: str, spec: GraphSpec) -> None:
    totals = []
    for layers in (2, 3, 4):
        config = TINY.model_copy(update={"num_hidden_layers": layers})
        counted = count(config, name, weights, spec)
        totals.append(
            (len(counted), sum(k.num_bytes for k in counted), sum(k.operations for k in counted))
        )
    two, three, four = totals
    assert [b - a for a, b in zip(two, three, strict=True)] == [
        b - a for a, b in zip(three, four, strict=True)
    ]


@pytest.mark.parametrize(("weights", "cache_len"), [("fp16", 2048), ("int8", 4096)])
def test_a_step_of_the_7b_reads_every_weight_and_the_cache_and_computes_with_all(
    weights: str, cache_len: int
) -> None:
    profile = Choices(weights=weights).apply(load_profile("310p3"))
    spec = DECODE.model_copy(update={"cache_len": cache_len})
    counted = count(SEVEN_B, "310p3", weights, spec)
    least = linear_bytes(SEVEN_B, profile) + 524_288 * cache_len
    assert least < sum(k.num_bytes for k in counted) < 3 * least
    numbers = 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 55296 * 4096
    attention = 4 * 32 * 4096 * cache_len
    assert sum(k.operations for k in counted) >= 2 * numbers + attention


def test_lowered_graphs_say_what_a_call_costs_in_steps(bundles: Path) -> None:
    exported = load_bundle(bundles / "talk-exported")
    profile = Choices(target="910b3", weights="fp16").apply(exported_profile(exported))
    by_name = {one.name: one for one in lower(exported, profile, (), CHIPS["910b3"])}
    rates = Rates(bandwidth=0.6 * 1.6e12, operations=0.7 * 294.9e12, source="the profile")
    times = {
        name: seconds(kernels(one.model, CHIPS["910b3"]), rates) for name, one in by_name.items()
    }
    for name, one in by_name.items():
        assert one.members[0].cost == pytest.approx(times[name] / times["decode_b1"])
    assert by_name["prefill_s64"].members[0].cost > 1
