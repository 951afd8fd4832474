"""compile for a chip: what ATC is asked, what is said when it fails, and what remains."""

import json
import os
import select
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiles import exported_profile
from runtime.bundle.reader import Bundle, load_bundle
from runtime.progress import SILENT
from tests.ascend.conftest import Toolkit
from tests.emulator.om_json import om_as_json
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle, dry_run
from toolchain.errors import TargetError
from toolchain.targets.ascend.cann import find_cann
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.ascend.lower import lower
from toolchain.targets.ascend.rules.graph_rules import RULES
from toolchain.targets.ascend.traffic import kernels


@pytest.fixture(scope="module")
def exported(bundles: Path) -> Bundle:
    return load_bundle(bundles / "talk-exported")


CHOICES = Choices(target="310p3", weights="fp16")
PATIENCE = 30.0  # seconds, beyond what any machine needs


def build(exported: Bundle, output: Path, choices: Choices = CHOICES) -> Bundle:
    return compile_bundle(exported, output, choices, progress=SILENT)


FAILURES = {
    "E16002": "an operator of the graph is not registered",
    "E10501": "source set_env.sh",
    "E10001": "does not take an option",
    "E19999": "an error inside ATC",
    "oom": "TE_PARALLEL_COMPILER=1",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_of_atc_is_explained_and_its_log_stays(
    failure: str, exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    toolkit(fail_with=failure, fail_model="decode")
    with pytest.raises(TargetError, match="atc failed on decode_b1") as caught:
        build(exported, tmp_path / "om")
    assert FAILURES[failure] in str(caught.value)
    log = tmp_path / "om.logs" / "decode_b1.log"
    assert f"the log is {log}" in str(caught.value)
    assert log.read_text().startswith("$ ")
    assert "--model=" in log.read_text()
    if failure.startswith("E"):
        assert "got exit code 255: [PID" in str(caught.value) or failure in str(caught.value)
        assert failure in log.read_text()
    assert os.listdir(tmp_path) == ["om.logs"]


def script(directory: Path, body: str) -> None:
    """Another atc, that does as the lines say."""
    atc = directory / "atc"
    atc.write_text(f"#!/bin/sh\n{body}\n")
    atc.chmod(0o755)


def test_a_child_that_outlives_atc_is_ended_and_not_waited_for(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compilers of kernels hold its output open when it is killed for lack of memory."""
    toolkit()
    (tmp_path / "bin").mkdir()
    child = tmp_path / "child"
    script(tmp_path / "bin", f"sleep 600 & echo $! > {child}; kill -9 $$")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(TargetError, match=r"got killed: no output; ATC ran out of memory"):
        build(exported, tmp_path / "om")
    assert ends(int(child.read_text()))


def ends(process: int) -> bool:
    """Whether a process is over, or about to be: a signal takes its time on a busy machine."""
    try:
        place = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([place], [], [], PATIENCE)[0])
    finally:
        os.close(place)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("E19999: Inner Error! see ./kernel_meta/te_add.log", "an error inside ATC"),
        ("E40021: Failed to compile Op [MatMul]", "a kernel cannot be compiled"),
        ("E10001: Value x for parameter --model is invalid. E19999", "does not take an option"),
        ("write failed: No space left on device", "the disk is full"),
        ("something new", "not in our table"),
    ],
)
def test_the_first_code_decides_what_a_failure_means(
    said: str,
    meaning: str,
    exported: Bundle,
    toolkit: Toolkit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toolkit()
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin", f"echo '{said}'; exit 255")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(TargetError, match=f"got exit code 255: .*; .*{meaning}"):
        build(exported, tmp_path / "om")


def test_what_atc_litters_goes_where_the_bundle_is_made(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    build(exported, tmp_path / "om")
    assert os.listdir(tmp_path / "here") == []


def test_a_path_that_atc_does_not_take_is_refused_by_the_character(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    toolkit()
    with pytest.raises(TargetError, match="atc does not take a path with ' ' in it; got"):
        build(exported, tmp_path / "an om")
    assert os.listdir(tmp_path) == []


def test_a_toolkit_without_kernels_of_the_chip_is_refused(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    toolkit()
    with pytest.raises(TargetError, match="lacks the kernels of Ascend310B1; got those of ascend"):
        build(exported, tmp_path / "om", replace(CHOICES, target="310b1"))
    assert os.listdir(tmp_path) == []


def test_before_8_5_a_toolkit_compiles_without_kernels_of_the_chip(toolkit: Toolkit) -> None:
    """They were an option then: what is missing is compiled with the graph."""
    toolkit(cann_version="8.3.RC1")
    assert find_cann(CHIPS["310b1"]).version == "8.3.RC1"
    toolkit(cann_version="8.5.0")
    with pytest.raises(TargetError, match="lacks the kernels of Ascend310B1"):
        find_cann(CHIPS["310b1"])


def test_beside_oms_there_is_no_empty_folder_of_weights(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    toolkit()
    build(exported, tmp_path / "om")
    folders = {f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*") if f.is_dir()}
    assert folders == {"om", "om.logs", "om/graphs", "om/graphs/weight"}


@pytest.mark.parametrize("target", ["310p3", "910b3"])
def test_the_conversions_that_are_counted_are_those_that_atc_puts_in(
    target: str, exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    """Of the right factors of products, where a chip takes them in blocks; by the two counts of
    people who have not read each other's."""
    toolkit()
    bundle = build(exported, tmp_path / "om", replace(CHOICES, target=target, via="onnx"))
    profile = Choices(target=target, weights="fp16").apply(exported_profile(exported))
    counted = {
        one.members[0].spec: [k.op_type for k in kernels(one.model, CHIPS[target])]
        for one in lower(exported, profile, (), CHIPS[target])
    }
    for graph in bundle.manifest.graphs:
        printed = om_as_json(bundle.path / graph.path)["graph"][0]["op"]
        types = [op["type"] for op in printed]
        assert types.count("TransData") == counted[graph.spec].count("TransData")
        assert (types.count("TransData") > 0) == (target == "310p3")


def test_success_without_an_om_is_a_failure(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    toolkit(fail_with="silent")
    with pytest.raises(TargetError, match=r"but there is no prefill_s64\.om; got nothing"):
        build(exported, tmp_path / "om")
    assert os.listdir(tmp_path) == ["om.logs"]


def test_without_cann_it_says_what_to_install_before_any_work(
    exported: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(
        TargetError, match="no atc on the PATH to compile for Ascend310P3"
    ) as caught:
        build(exported, tmp_path / "om")
    assert "install Ascend-cann-toolkit_8.5.0_linux-" in str(caught.value)
    assert "Ascend-cann-310p-ops_8.5.0_linux-" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_the_name_with_the_system_in_it_is_taken(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    toolkit(host_in_name=True)
    bundle = build(exported, tmp_path / "om")
    assert all("_linux_" in graph.path for graph in bundle.manifest.graphs)
    assert load_bundle(bundle.path).manifest == bundle.manifest


def test_logs_stay_beside_a_bundle_that_succeeded(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    toolkit()
    build(exported, tmp_path / "om")
    assert sorted(os.listdir(tmp_path)) == ["om", "om.logs"]
    assert "ATC run success" in (tmp_path / "om.logs" / "prefill_s64.log").read_text()


def test_an_environment_that_is_set_is_left_alone(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit()
    monkeypatch.setenv("TE_PARALLEL_COMPILER", "7")
    monkeypatch.setenv("ATC_EMULATOR_LOG", str(tmp_path / "runs"))
    build(exported, tmp_path / "om")
    runs = [json.loads(line) for line in (tmp_path / "runs").read_text().splitlines()]
    assert {run["env"]["TE_PARALLEL_COMPILER"] for run in runs} == {"7"}
    assert all(int(run["env"]["MAX_COMPILE_CORE_NUMBER"]) >= 1 for run in runs)
    assert [run["argv"][0] for run in runs] == ["--framework=5", "--mode=1"] * 3


def test_a_dry_run_prints_every_check_and_command_and_writes_nothing(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    output = tmp_path / "om"
    lines = dry_run(exported, output, Choices(target="310p3", weights="fp16"))
    assert len([line for line in lines if line.endswith(": yes")]) == 3 * len(RULES)
    assert any(line.startswith("CANN: no atc on the PATH") for line in lines)
    assert [line.split()[0] for line in lines[-3:]] == ["atc"] * 3
    toolkit()
    with_cann = dry_run(exported, output, Choices(target="310p3", weights="fp16"))
    assert any(line.startswith("CANN: 8.5.0 at ") for line in with_cann)
    toolkit(cann_version="8.0.RC3")
    [command] = [
        line
        for line in dry_run(exported, output, Choices(target="310p3", weights="fp16"))
        if "--model" in line
    ]
    assert "'--dynamic_dims=64,64,64,448;1,1,1,385'" in command
    assert os.listdir(tmp_path) == []


def test_a_target_without_another_program_has_no_dry_run(exported: Bundle, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="target cpu starts no other program; leave --dry-run"):
        dry_run(exported, tmp_path / "out", Choices(target="cpu", weights="int4"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "int4"}, "target 310p3 has no such weights; got int4; allowed: fp16, int8"),
        ({"target": "310b1", "weights": "int8"}, "has no such weights; got int8; allowed: fp16"),
        ({"kv_cache": "int8"}, "has no such KV cache; got int8; allowed: float"),
        ({"host_cpu": "riscv"}, "has no such host_cpu; got riscv; allowed: None, x86_64, aarch64"),
        (
            {"target": "cpu", "weights": "int4", "host_cpu": "aarch64"},
            "target cpu has no such host",
        ),
        ({"without": ("weight_quant",)}, "cannot disable this pass; got weight_quant"),
        ({"without": ("attention",)}, "got attention; allowed: rows_first_cache, rewrite_"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_remains(
    options: dict[str, Any], message: str, exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    toolkit()
    with pytest.raises(TargetError, match=message):
        build(exported, tmp_path / "om", replace(CHOICES, **options))
    assert os.listdir(tmp_path) == []
