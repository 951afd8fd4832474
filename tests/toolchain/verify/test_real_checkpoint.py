"""The recipe of the README on a small trained checkpoint, in every precision, and with faults."""

from pathlib import Path

import pytest

from profiles import KVCache, load_profile
from runtime.bundle.reader import Bundle, load_bundle
from tests.toolchain.verify.planting import (
    Edit,
    planted,
    scale_norm,
    swap_layers,
    transpose_q,
    wrong_head_row,
    zero_scales,
)
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.verify.layers import check_parts
from toolchain.verify.report import StageReport
from toolchain.verify.sequences import default_sequences
from toolchain.verify.stages import Stage, verify

CACHES: tuple[KVCache, ...] = ("float", "int8")
PRECISIONS = [(weights, cache) for weights in ("fp32", "int8", "int4") for cache in CACHES]
PROFILE = load_profile("cpu")


@pytest.fixture(scope="module")
def exported(mini_exported: Path) -> Bundle:
    return load_bundle(mini_exported)


def check(bundle: Bundle, shared_data: Path) -> StageReport:
    """As `toolchain verify` does it."""
    [stage] = verify(
        [Stage(bundle)], shared_data / "alpaca2-mini", PROFILE, default_sequences(bundle)
    )
    return stage


@pytest.mark.parametrize(("weights", "cache"), PRECISIONS)
def test_a_good_bundle_passes(
    weights: str, cache: KVCache, exported: Bundle, shared_data: Path, tmp_path: Path
) -> None:
    choices = Choices(weights=weights, kv_cache=cache)
    stage = check(compile_bundle(exported, tmp_path / "compiled", choices), shared_data)
    assert stage.verdict == "pass", stage.summary


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (transpose_q, "layer 2"),
        (scale_norm, "layer 1"),
        (swap_layers, "layers 1, 2"),
        (wrong_head_row, "lm_head, id 300"),
    ],
)
def test_a_fault_is_named_in_every_precision(
    edit: Edit, place: str, exported: Bundle, shared_data: Path, tmp_path: Path
) -> None:
    from export.reference import Reference

    reference = Reference(shared_data / "alpaca2-mini")
    faulty = planted(exported, tmp_path / "faulty", edit)
    for weights, cache in PRECISIONS:
        choices = Choices(weights=weights, kv_cache=cache)
        bundle = compile_bundle(faulty, tmp_path / f"{weights}-{cache}", choices)
        parts = check_parts(bundle, reference, default_sequences(bundle))
        limits = PROFILE.limits_for(weights, cache)
        for found in parts.values():
            [culprit] = found.culprits(limits)
            assert culprit.startswith(f"{place} (")


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_scales_of_zero_are_named(
    weights: str, exported: Bundle, shared_data: Path, tmp_path: Path
) -> None:
    good = compile_bundle(exported, tmp_path / "good", Choices(weights=weights))
    stage = check(planted(good, tmp_path / "faulty", zero_scales), shared_data)
    assert stage.verdict == "fail"
    for report in stage.graphs:
        [culprit] = report.culprits
        assert culprit.startswith("layer 1 (")
