"""The exact ATC commands, compared with golden ones, and the table that they are made from."""

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest

from export.graphs import graph_inputs
from profiles import load_profile
from runtime.bundle.manifest import Graph, TensorSpec
from tests.models import TINY
from toolchain.targets.ascend.atc_command import AtcJob, atc_environment, compile_options
from toolchain.targets.ascend.atc_options import OPTIONS, option_list
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.ascend.lower import Lowered
from toolchain.targets.ascend.oms import atc_job

COMMON = (
    "--input_format=ND",
    "--precision_mode_v2=origin",
    "--external_weight=1",
    "--op_compiler_cache_mode=enable",
    "--op_compiler_cache_dir=/cache",
    "--log=error",
)
PREFILL = (
    "--input_shape=input_ids:1,512;position_ids:1,512;attention_mask:1,1,512,{total};logit_rows:1;"
    "past_key.0:1,2,{cache},16;past_value.0:1,2,{cache},16"
)
CROSS = ("--host_env_os=linux", "--host_env_cpu=aarch64")
GOLDEN = {
    ("310p3", None): (
        "--framework=5",
        "--model=/in/prefill_s512.onnx",
        "--output=/out/prefill_s512",
        "--soc_version=Ascend310P3",
        COMMON[0],
        PREFILL.format(total=2560, cache=2048),
        *COMMON[1:],
    ),
    ("910b3", None): (
        "--framework=5",
        "--model=/in/prefill_s512.onnx",
        "--output=/out/prefill_s512",
        "--soc_version=Ascend910B3",
        COMMON[0],
        PREFILL.format(total=4608, cache=4096),
        *COMMON[1:],
    ),
    ("310p3", "aarch64"): (
        "--framework=5",
        "--model=/in/prefill_s512.onnx",
        "--output=/out/prefill_s512",
        "--soc_version=Ascend310P3",
        COMMON[0],
        PREFILL.format(total=2560, cache=2048),
        *COMMON[1:],
        *CROSS,
    ),
}
AIR = (
    "--framework=1",
    "--model=/in/prefill_s512.air",
    "--output=/out/prefill_s512",
    "--soc_version=Ascend910B3",
    "--tiling_schedule_optimize=1",
    *COMMON[1:],
)


@pytest.fixture(autouse=True)
def on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def job(target: str, gears: tuple[tuple[TensorSpec, ...], ...], host_cpu: str | None) -> AtcJob:
    return AtcJob(
        name="prefill_s512",
        model=Path("/in/prefill_s512.onnx"),
        output=Path("/out/prefill_s512"),
        soc_name=CHIPS[target].soc_name,
        gears=gears,
        cache=Path("/cache"),
        deterministic=False,
        host_cpu=host_cpu,
    )


@pytest.mark.parametrize(("target", "host_cpu"), GOLDEN)
def test_the_command_is_the_golden_one(target: str, host_cpu: str | None) -> None:
    inputs = graph_inputs(TINY, load_profile(target).graphs[0])
    options = compile_options(job(target, (inputs,), host_cpu))
    assert tuple(options) == GOLDEN[target, host_cpu]


def test_an_air_says_its_shapes_itself_and_plans_attention_on_the_chip() -> None:
    onnx = job("910b3", (), None)
    assert tuple(compile_options(replace(onnx, model=Path("/in/prefill_s512.air")))) == AIR


@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_int8_weights_ask_for_the_same_bits_in_every_run(weights: str) -> None:
    """The kernel that multiplies by them gives other last bits each time unless it is asked."""
    profile = load_profile("310p3").model_copy(update={"weights": weights})
    inputs = graph_inputs(TINY, profile.graphs[0])
    lowered = Lowered(
        name="prefill_s512",
        model=ir.Model(ir.Graph([], [], nodes=[]), ir_version=8),
        members=(Graph(spec=profile.graphs[0], path="", cost=1, inputs=inputs, outputs=()),),
        weights={},
        layout="NHD",
    )
    made = atc_job(lowered, profile, CHIPS["310p3"], Path("/in"), Path("/out"))
    assert ("--deterministic=1" in compile_options(made)) == (weights == "int8")


def test_a_box_like_this_machine_is_not_cross_compiled_for() -> None:
    inputs = graph_inputs(TINY, load_profile("310p3").graphs[0])
    assert compile_options(job("310p3", (inputs,), "x86_64")) == compile_options(
        job("310p3", (inputs,), None)
    )


def test_gears_list_every_dimension_that_differs_in_order() -> None:
    by_name = {spec.name: graph_inputs(TINY, spec) for spec in load_profile("310p3").graphs}
    prefill, decode = by_name["prefill_s512"], by_name["decode_b1"]
    rows = next(tensor for tensor in prefill if tensor.name == "logit_rows")
    with_rows = (*decode[:3], rows, *decode[3:])
    options = compile_options(job("310p3", (prefill, with_rows), None))
    assert "--dynamic_dims=512,512,512,2560;1,1,1,2049" in options
    assert (
        "--input_shape=input_ids:1,-1;position_ids:1,-1;attention_mask:1,1,-1,-1;logit_rows:1;"
        "past_key.0:1,2,2048,16;past_value.0:1,2,2048,16"
    ) in options


def test_every_option_that_is_used_is_in_the_table() -> None:
    used = {option.split("=")[0][2:] for golden in (*GOLDEN.values(), AIR) for option in golden}
    assert {*used, "deterministic", "dynamic_dims", "mode", "om", "json"} == set(OPTIONS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("framework", "3"),
        ("soc_version", "Ascend310"),
        ("input_format", "NCHW"),
        ("input_shape", "input_ids"),
        ("input_shape", "input_ids:1,0"),
        ("dynamic_dims", "1,2"),
        ("dynamic_dims", "1;" * 100 + "1"),
        ("precision_mode_v2", "fp16"),
        ("external_weight", "2"),
        ("host_env_cpu", "arm"),
    ],
)
def test_a_value_that_the_table_does_not_have_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"atc --{name} does not take"):
        option_list({name: value})
    with pytest.raises(KeyError):
        option_list({"precision_mode": "force_fp16"})


@pytest.mark.parametrize(
    ("cores", "free", "weights", "compilers", "at_once"),
    [
        (64, 512e9, 14e9, "8", "4"),
        (64, 40e9, 14e9, "8", "4"),
        (64, 32e9, 14e9, "2", "1"),
        (64, 24e9, 14e9, "1", "1"),  # less than ATC itself needs: as few as can be
        (4, 512e9, 14e9, "3", "1"),
        (1, 512e9, 14e9, "1", "1"),
    ],
)
def test_as_many_compilers_as_cores_and_memory_bear(
    cores: int, free: float, weights: float, compilers: str, at_once: str
) -> None:
    environment = atc_environment({"PATH": "/bin"}, cores, free, weights)
    assert environment == {
        "PATH": "/bin",
        "TE_PARALLEL_COMPILER": compilers,
        "MAX_COMPILE_CORE_NUMBER": at_once,
    }
