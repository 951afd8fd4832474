"""Claims about benchmarks/model_sizes.py: the three sizes are the real ones, and how they fit."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from export.config import load_config
from profiles import load_profile
from runtime.bundle.manifest import ModelConfig
from tests.paths import ROOT
from toolchain.costs.sizes import num_parameters
from toolchain.plan.planner import make_plan

SIZES = ("1.3B", "7B", "13B")
# of Chinese-Alpaca-2, as profiles ship
FITS = {
    "310p3": (True, True, False),
    "310p3-int8": (True, True, False),
    "910b3": (True, True, False),
    "910b3-16k": (True, True, False),
}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("model_sizes")


def config_of(script: ModuleType, size: str) -> ModelConfig:
    config: ModelConfig = script.seven_b().model_copy(update=script.SIZES[size])
    return config


@pytest.mark.parametrize("size", SIZES)
def test_a_size_has_the_parameters_that_transformers_gives_it(
    script: ModuleType, size: str
) -> None:
    config = config_of(script, size)
    keys = set(ModelConfig.model_fields) - {"rope_theta", "rope_scaling"}
    with torch.device("meta"):
        theirs = LlamaForCausalLM(LlamaConfig(**config.model_dump(include=keys)))
    assert num_parameters(config) == sum(weight.numel() for weight in theirs.parameters())


@pytest.mark.parametrize("size", SIZES)
def test_the_config_that_is_written_is_that_of_the_size(
    script: ModuleType, size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["model_sizes.py", "--write", size, "--directory", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    written = load_config(tmp_path)
    assert written.max_position_embeddings == 4096
    planned = {"max_position_embeddings": script.LONG}
    assert written.model_copy(update=planned) == config_of(script, size)


@pytest.mark.parametrize("profile", ["cpu", *FITS])
def test_every_size_is_planned_and_takes_more_than_the_one_before(
    script: ModuleType, profile: str
) -> None:
    plans = [make_plan(config_of(script, size), load_profile(profile)) for size in SIZES]
    needs = [plan.needs["shared"] for plan in plans]
    assert needs == sorted(needs)
    for plan in plans:  # never refused without a way out
        assert plan.fits == (plan.needs["shared"] <= plan.available) == (plan.remedy is None)
    if profile in FITS:  # what a CPU has depends on the machine
        assert tuple(plan.fits for plan in plans) == FITS[profile]


def test_a_13b_in_int8_runs_on_a_card_of_24_gb_for_one_sequence(script: ModuleType) -> None:
    config, shipped = config_of(script, "13B"), load_profile("310p3-int8")
    assert make_plan(config, shipped).remedy is not None
    alone = tuple(spec for spec in shipped.graphs if spec.batch_size == 1)
    plan = make_plan(config, shipped.model_copy(update={"graphs": alone, "slots": 1}))
    assert plan.fits
    assert plan.needs["shared"] > num_parameters(config)  # a byte each


def test_an_int8_cache_of_16k_rows_has_the_size_that_the_shape_gives(script: ModuleType) -> None:
    long = script.long_profiles()
    config = script.seven_b()
    four, one = (make_plan(config, long[name]) for name in list(long)[:2])
    # keys and values of 32 layers, 32 heads of 128: a byte each
    slots = (four.needs["shared"] - one.needs["shared"]) / (2 * 32 * 32 * 128 * script.LONG)
    assert slots == pytest.approx(3, rel=0.02)
    assert make_plan(config, long["910b3-16k"]).fits
