"""Claims about the two ways to an OM: which is taken, and what is refused before any work."""

import os
from pathlib import Path

import pytest

from profiles import Profile, load_profile
from runtime.bundle.manifest import GraphSpec
from runtime.bundle.reader import Bundle
from runtime.progress import SILENT
from tests.models import TINY, bare_manifest
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle, dry_run
from toolchain.errors import TargetError
from toolchain.host.torchair import HOME
from toolchain.targets import find_target
from toolchain.targets.ascend.cann import Toolkit
from toolchain.targets.ascend.from_air import check_cann
from toolchain.targets.ascend.ways import settle_way

CHOICES = Choices(target="910b3")
FAMILY = (
    GraphSpec(phase="prefill", batch_size=1, seq_len=8, cache_len=40),
    GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=40),
)


@pytest.fixture(autouse=True)
def no_torchair(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME, str(tmp_path / "nowhere"))


def exported(*specs: GraphSpec) -> Bundle:
    """A bundle of which nothing is read but its manifest."""
    from export.graphs import portable_graph

    profile = load_profile("cpu").model_copy(update={"graphs": specs, "slots": 1})
    manifest = bare_manifest(TINY, tuple(portable_graph(TINY, spec) for spec in specs))
    changed = {"stage": "exported", "profile": profile.model_dump(mode="json")}
    return Bundle(path=Path("/exported"), manifest=manifest.model_copy(update=changed))


def refusal(bundle: Bundle, output: Path, choices: Choices = CHOICES) -> str:
    with pytest.raises(TargetError) as caught:
        compile_bundle(bundle, output, choices, progress=SILENT)
    return str(caught.value)


@pytest.mark.parametrize(
    ("target", "way"), [("310p3", "onnx"), ("310b1", "onnx"), ("910b1", "air"), ("910b4", "air")]
)
def test_a_chip_that_torchair_knows_goes_through_it_unless_the_other_way_is_asked_for(
    target: str, way: str
) -> None:
    profile: Profile = Choices(target=target).apply(load_profile("910b3"))
    assert settle_way(profile).via == way
    assert settle_way(profile.model_copy(update={"via": "onnx"})).via == "onnx"


def test_torchair_cannot_be_asked_for_on_another_chip() -> None:
    profile = Choices(via="air").apply(load_profile("310p3"))
    with pytest.raises(TargetError, match="no such via; got air; allowed: auto, onnx"):
        find_target(profile)


def test_without_torchair_both_ways_out_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    """No silent change of way: the graphs would be others, and slower."""
    said = refusal(exported(*FAMILY), tmp_path / "om")
    assert f"got {tmp_path / 'nowhere'}" in said
    assert "pip download --no-deps --require-hashes" in said
    assert "--hash=sha256:" in said
    assert f"python -m zipfile -e torch_npu-2.13.0-*.whl {tmp_path / 'nowhere'}" in said
    assert "--via onnx" in said
    assert os.listdir(tmp_path) == []


def test_a_dry_run_says_what_is_missing_and_where_atc_runs(tmp_path: Path) -> None:
    lines = dry_run(exported(*FAMILY), tmp_path / "om", CHOICES)
    assert lines[0].startswith("torchair: graphs that write the cache are made by")
    [folder] = [line.removeprefix("cd ") for line in lines if line.startswith("cd ")]
    [_, command] = [line for line in lines if "--framework=1" in line]
    assert f"--model={folder}/graphs/decode_b1.air" in command
    assert "--soc_version=Ascend910B3 --tiling_schedule_optimize=1 --precision_mode" in command
    assert "--external_weight=1" in command
    assert "--input_" not in command


def test_a_graph_without_a_cache_is_left_out(tmp_path: Path) -> None:
    """With lengths, a prompt's first chunk reads no row that it has not."""
    first = GraphSpec(phase="prefill", batch_size=1, seq_len=8, cache_len=0)
    made = [
        dry_run(exported(*graphs), tmp_path / "om", CHOICES)
        for graphs in (FAMILY, (*FAMILY, first))
    ]
    assert made[0] == made[1]


def test_through_torchair_every_graph_has_the_one_cache() -> None:
    profile = load_profile("310p3").model_copy(update={"target": "910b3"})
    through = {via: settle_way(profile.model_copy(update={"via": via})) for via in ("air", "onnx")}
    assert {spec.cache_len for spec in through["air"].graphs} == {2048}
    assert through["air"].short_graphs == ()
    assert (through["onnx"].graphs, len(through["onnx"].short_graphs)) == (profile.graphs, 4)


def test_a_pass_of_the_other_way_is_refused(tmp_path: Path) -> None:
    choices = Choices(target="910b3", without=("join_products",))
    assert "join_products" in refusal(exported(*FAMILY), tmp_path / "om", choices)


@pytest.mark.parametrize(("version", "fits"), [("8.3.RC1", False), ("8.5.0", True)])
def test_an_atc_that_takes_no_ref_data_is_refused(version: str, fits: bool) -> None:
    cann = Toolkit(Path("/atc"), version)
    if fits:
        check_cann(cann)
    else:
        with pytest.raises(TargetError, match=r"newer CANN; got 8\.3\.RC1; allowed: 8\.5\.0"):
            check_cann(cann)
