"""The emulated compiler refuses what ATC refuses."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.emulator.atc import install_atc
from tests.emulator.samples import ROWS, Atc, K, plain, quantized, save, weight_files


def test_a_program_compiles_and_a_log_remembers_how(tmp_path: Path) -> None:
    program = install_atc(tmp_path / "bin", host_in_name=True)
    model = plain(tmp_path / "m.onnx")
    log = tmp_path / "log.jsonl"
    environment = {**os.environ, "ATC_EMULATOR_LOG": str(log), "TE_PARALLEL_COMPILER": "8"}
    options = f"--framework=5 --model={model} --output={tmp_path}/m --soc_version=Ascend310P3"
    host = ["--host_env_os=linux", "--host_env_cpu=aarch64"]
    done = subprocess.run(
        [program, *options.split(), *host], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout
    assert "ATC run success" in done.stdout
    assert (tmp_path / "m_linux_aarch64.om").is_file()
    assert json.loads(log.read_text())["env"] == {"TE_PARALLEL_COMPILER": "8"}


def test_a_killed_compiler_leaves_no_word(tmp_path: Path) -> None:
    program = install_atc(tmp_path / "bin", fail_with="oom")
    model = plain(tmp_path / "m.onnx")
    options = f"--framework=5 --model={model} --output={tmp_path}/m --soc_version=Ascend310P3"
    done = subprocess.run([program, *options.split()], capture_output=True, text=True)
    assert done.returncode == -9
    assert "ATC run" not in done.stdout


def test_mode_1_names_the_weight_files(atc: Atc, tmp_path: Path) -> None:
    code, _ = atc(plain(tmp_path / "m.onnx"))
    assert code == 0
    om, report = tmp_path / "out/m.om", tmp_path / "m.json"
    assert atc(None, mode="1", om=str(om), json=str(report))[0] == 0
    ops = json.loads(report.read_text())["graph"][0]["op"]
    attributes = next(op["attr"] for op in ops if op["type"] == "FileConstant")
    locations = [a["value"]["s"] for a in attributes if a["key"] == "location"]
    assert locations == [path.name for path in weight_files(om)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"no_such": "1"}, "unknown command line flag 'no_such'"),
        ({"log": "loud"}, "E10001"),
        ({"soc_version": ""}, "E10004"),
        ({"output": "/tmp/"}, "E10022"),
        ({"input_format": "NHWC"}, "E10001"),
        ({"precision_mode": "force_fp16"}, "exclude each other"),
        ({"precision_mode_v2": "mixed_bfloat16"}, "no bfloat16"),
        ({"input_shape": "z:4,64"}, "E10002"),
        ({"input_shape": "x:5,64"}, "E10002"),
        ({"input_shape": "x:4;64"}, "E10002"),
        ({"input_shape": "x:4,64", "dynamic_dims": "1;2"}, "No -1"),
        ({"soc_version": "Ascend310B1"}, "ops package"),
    ],
)
def test_bad_options_are_refused(
    atc: Atc, tmp_path: Path, options: dict[str, str], words: str
) -> None:
    code, text = atc(plain(tmp_path / "m.onnx"), **options)
    assert code == 255
    assert "ATC run failed" in text
    assert words in text


def test_a_symbolic_dim_needs_a_shape(atc: Atc, tmp_path: Path) -> None:
    model = plain(tmp_path / "m.onnx", rows="rows")
    assert "E10002" in atc(model)[1]
    assert atc(model, input_shape=f"x:{ROWS},{K}")[0] == 0


@pytest.mark.parametrize("gears", ["1", "1;1", "1,2;2", "0;2", "a;b", ";".join("1" * 101)])
def test_bad_gears_are_refused(atc: Atc, tmp_path: Path, gears: str) -> None:
    model = plain(tmp_path / "m.onnx", rows="rows")
    assert "E10001" in atc(model, input_shape=f"x:-1,{K}", dynamic_dims=gears)[1]


@pytest.mark.parametrize(
    ("name", "value"), [("TE_PARALLEL_COMPILER", "33"), ("MAX_COMPILE_CORE_NUMBER", "0")]
)
def test_the_number_of_compile_processes_has_limits(
    atc: Atc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert name in atc(plain(tmp_path / "m.onnx"))[1]


def test_an_opset_nobody_registered_is_refused(atc: Atc, tmp_path: Path) -> None:
    text = atc(plain(tmp_path / "m.onnx", opset=19))[1]
    assert "E16002" in text
    assert "ai.onnx::19::MatMul" in text


def test_310p_multiplies_no_float32(atc: Atc, tmp_path: Path) -> None:
    model = plain(tmp_path / "m.onnx", element=TensorProto.FLOAT)
    assert "E19999" in atc(model)[1]
    assert atc(model, soc_version="Ascend910B3")[0] == 0


@pytest.mark.parametrize(
    "options", [{"group": 48}, {"group": 64}, {"scale": np.ones(5, np.float16)}]
)
def test_weight_quant_has_limits(atc: Atc, tmp_path: Path, options: dict[str, Any]) -> None:
    assert "not supported" in atc(quantized(tmp_path / "m.onnx", **options))[1]


def test_310b_has_no_weight_quant(atc: Atc, tmp_path: Path) -> None:
    settings = {"ops_packages": ["310b"]}
    code, text = atc(quantized(tmp_path / "m.onnx"), settings, soc_version="Ascend310B1")
    assert code == 255
    assert "no kernel" in text


def test_the_plugin_of_incremental_attention_is_broken(atc: Atc, tmp_path: Path) -> None:
    """It is registered, so that only its use shows it."""
    node = helper.make_node("NPUIncreFlashAttention", ["x", "w", "w"], ["y"], "n", domain="npu")
    model = save(tmp_path / "m.onnx", [node], {"w": np.ones((K, K), np.float16)})
    assert "its plugin leaves" in atc(model)[1]


def test_missing_weights_are_refused(atc: Atc, tmp_path: Path) -> None:
    model = plain(tmp_path / "m.onnx")
    (tmp_path / "m.onnx.data").unlink()
    assert "E13001" in atc(model)[1]


def test_a_protobuf_of_2_gb_is_refused(atc: Atc, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.touch()
    os.truncate(model, 2**31)
    assert "larger than" in atc(model)[1]


def test_equal_weights_share_a_file_and_other_layouts_do_not(atc: Atc, tmp_path: Path) -> None:
    decode, prefill = plain(tmp_path / "d.onnx", rows=1), plain(tmp_path / "p.onnx")
    assert atc(decode, output=str(tmp_path / "same/d"))[0] == 0
    assert atc(prefill, output=str(tmp_path / "same/p"))[0] == 0
    assert len(weight_files(tmp_path / "same/d.om")) == 1
    differ = {"layout_per_graph": True}
    assert atc(decode, differ, output=str(tmp_path / "differ/d"))[0] == 0
    assert atc(prefill, differ, output=str(tmp_path / "differ/p"))[0] == 0
    assert len(weight_files(tmp_path / "differ/d.om")) == 2


def test_a_silent_compiler_writes_nothing(atc: Atc, tmp_path: Path) -> None:
    code, _ = atc(plain(tmp_path / "m.onnx"), {"fail_with": "silent"})
    assert code == 0
    assert not (tmp_path / "out/m.om").exists()


def test_zeros_stay_holes(atc: Atc, tmp_path: Path) -> None:
    big = np.zeros((K, 2**17), np.float16)  # 16 MiB
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")
    model = save(tmp_path / "m.onnx", [node], {"w": big})
    assert atc(model)[0] == 0
    (file,) = weight_files(tmp_path / "out/m.om")
    assert file.stat().st_size == big.nbytes
    assert file.stat().st_blocks * 512 < 2**20
