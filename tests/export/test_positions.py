"""Claims about positions: the angles of transformers at the far end, and what --rope means."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from export.config import check_context, load_config
from export.errors import ConfigError
from export.layers import RotaryEmbedding
from export.positions import inverse_frequencies
from export.rope_settings import num_positions, with_rope
from profiles import Profile, load_profile
from runtime.bundle.manifest import GraphSpec, ModelConfig
from tests.export.test_config import ALPACA2, refusal, write

TOLERANCE = 1e-4
BANDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN_64K = {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}
LLAMA_31 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192, **BANDS}

# What a config.json says -> positions that the model then has.
SCALINGS: dict[str, tuple[dict[str, Any], int]] = {
    "default": ({}, 4096),
    "linear, 16K": (
        {"max_position_embeddings": 16384, "rope_scaling": {"type": "linear", "factor": 4}},
        16384,
    ),
    "yarn, 64K": (
        {"max_position_embeddings": 65536, "rope_scaling": {**YARN_64K, "finetuned": True}},
        65536,
    ),
    "yarn, counted before": (
        {
            "max_position_embeddings": 32768,
            "rope_theta": 1e6,
            "rope_scaling": {**YARN_64K, "factor": 4, "original_max_position_embeddings": 32768},
        },
        131072,
    ),
    "yarn, every setting": (
        {
            "max_position_embeddings": 65536,
            "rope_scaling": {**YARN_64K, "beta_fast": 16, "beta_slow": 2, "truncate": False},
        },
        65536,
    ),
    "yarn, attention": (
        {"rope_scaling": {**YARN_64K, "factor": 2.0, "attention_factor": 1.5}},
        8192,
    ),
    "yarn, mscale": (
        {"rope_scaling": {**YARN_64K, "factor": 2.0, "mscale": 0.7, "mscale_all_dim": 1.1}},
        8192,
    ),
    "llama3": (
        {"max_position_embeddings": 131072, "rope_theta": 500000.0, "rope_scaling": LLAMA_31},
        131072,
    ),
    "llama3, transformers 5": (
        {
            "max_position_embeddings": 131072,
            "rope_parameters": {**LLAMA_31, "rope_theta": 500000.0, "factor": 32.0},
            "rope_scaling": None,
        },
        131072,
    ),
    "length outside": (
        {
            "original_max_position_embeddings": 2048,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
        },
        8192,
    ),
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, 4096),
}
every_scaling = pytest.mark.parametrize(
    ("changes", "positions"), SCALINGS.values(), ids=list(SCALINGS)
)
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@every_scaling
def test_cosines_and_sines_are_those_of_transformers_at_the_far_end(
    tmp_path: Path, changes: dict[str, Any], positions: int
) -> None:
    config = load_config(write(tmp_path, changes))
    theirs = LlamaRotaryEmbedding(LlamaConfig.from_pretrained(tmp_path))
    # A dynamic one is the same up to the length that the model was trained for.
    ids = torch.arange(max(0, positions - 500), positions)[None]
    cos, sin = theirs(torch.zeros(1), ids)
    ours = RotaryEmbedding(config)(ids)
    half = config.head_dim // 2
    np.testing.assert_allclose(ours[0][:, 0], cos[..., :half], atol=TOLERANCE)
    np.testing.assert_allclose(ours[1][:, 0], sin[..., :half], atol=TOLERANCE)


@every_scaling
def test_a_model_has_the_positions_that_its_scaling_gives(
    tmp_path: Path, changes: dict[str, Any], positions: int
) -> None:
    assert num_positions(load_config(write(tmp_path, changes))) == positions


@pytest.mark.parametrize("alpha", [1.0, 2.0, 4.0, 7.5])
def test_a_fixed_alpha_is_the_formula_of_the_original_scripts(tmp_path: Path, alpha: float) -> None:
    config = with_rope(load_config(write(tmp_path, {})), f"ntk:{alpha}", 4096)
    base = 10000.0 * alpha ** (128 / 126)
    expected = base ** (-np.arange(0, 128, 2) / 128)  # float64
    np.testing.assert_allclose(inverse_frequencies(config).numpy(), expected, rtol=1e-6)


def test_published_bases_of_alpha(tmp_path: Path) -> None:
    """The bases that alpha 2 and 4 give with heads of 128, to five digits."""
    for alpha, base in ((2.0, 20221), (4.0, 40890)):
        config = with_rope(load_config(write(tmp_path, {})), f"ntk:{alpha}", 4096)
        slowest = inverse_frequencies(config)[-1].item()
        assert slowest ** (-128 / 126) == pytest.approx(base, rel=1e-4)


@pytest.mark.parametrize(
    ("cache_len", "alpha"), [(2048, 1.0), (4096, 1.0), (8192, 3.0), (16384, 7.0)]
)
def test_auto_takes_the_alpha_of_the_context_that_is_compiled(
    tmp_path: Path, cache_len: int, alpha: float
) -> None:
    config = load_config(write(tmp_path, {}))
    auto = with_rope(config, "ntk:auto", cache_len)
    assert auto == with_rope(config, f"ntk:{alpha}", cache_len)
    assert num_positions(auto) == max(4096, cache_len)


def test_ntk_goes_beside_the_linear_scaling_of_the_16k_model(tmp_path: Path) -> None:
    linear = {"max_position_embeddings": 16384, "rope_scaling": {"type": "linear", "factor": 4.0}}
    config = with_rope(load_config(write(tmp_path, linear)), "ntk:auto", 32768)
    expected = (10000.0 * 3 ** (128 / 126)) ** (-np.arange(0, 128, 2) / 128) / 4
    np.testing.assert_allclose(inverse_frequencies(config).numpy(), expected, rtol=1e-6)
    assert num_positions(config) == 32768


@pytest.mark.parametrize("text", ["linear:4", "yarn:4"])
def test_an_option_is_what_config_json_would_say(tmp_path: Path, text: str) -> None:
    kind = text.partition(":")[0]
    scaling = {"rope_type": kind, "factor": 4.0, "original_max_position_embeddings": 4096}
    written = {"max_position_embeddings": 16384, "rope_scaling": scaling}
    plain = load_config(write(tmp_path, {}))
    assert with_rope(plain, text, 4096) == load_config(write(tmp_path, written))
    assert with_rope(plain, None, 4096) == plain


@pytest.mark.parametrize(
    "text", ["", "ntk", "ntk:", "ntk:x", "ntk:0.5", "ntk:nan", "linear:auto", "yarn:1e9", "su:2"]
)
def test_an_option_that_means_nothing_is_refused_with_the_forms(tmp_path: Path, text: str) -> None:
    config = load_config(write(tmp_path, {}))
    with pytest.raises(ConfigError) as caught:
        with_rope(config, text, 4096)
    assert f"--rope; got {text!r}; allowed: ntk:ALPHA, ntk:auto, linear:F" in str(caught.value)


def test_an_option_cannot_replace_what_the_model_was_trained_with(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, {"rope_scaling": YARN_64K}))
    for text in ("ntk:2", "linear:2", "yarn:2"):
        with pytest.raises(ConfigError, match=r"trained with .* got yarn; .*leave --rope out"):
            with_rope(config, text, 4096)


def long_profile() -> Profile:
    decode = GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=8192)
    return load_profile("cpu").model_copy(update={"graphs": (decode,)})


@pytest.mark.parametrize("changes", [{}, {"rope_scaling": {"type": "dynamic", "factor": 4.0}}])
def test_a_longer_cache_than_the_model_has_is_refused_with_the_alpha_that_fits(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Dynamic scaling too: keys are cached as they were rotated for a shorter text."""
    config = load_config(write(tmp_path, changes))
    profile = long_profile()
    with pytest.raises(ConfigError, match=r"got 8192; allowed: up to 4096; .*--rope ntk:3"):
        check_context(config, profile)
    check_context(with_rope(config, "ntk:3", 8192), profile)


@pytest.mark.parametrize(
    ("scaling", "problem"),
    [
        ({"type": "yarn", "factor": 4.0}, "original_max_position_embeddings: Field required"),
        ({**YARN_64K, "beta_fast": 0}, "beta_fast: Input should be greater than 0; got 0"),
        ({**YARN_64K, "beta_quick": 3}, "unknown key yarn.beta_quick"),
        ({**YARN_64K, "truncate": "no"}, "truncate: Input should be a valid boolean; got 'no'"),
        ({**YARN_64K, "factor": None}, "factor: "),
        ({**LLAMA_31, "low_freq_factor": None}, "low_freq_factor: "),
        ({**LLAMA_31, "factor": "8"}, "factor: Input should be a valid number; got '8'"),
        ({"type": "dynamic"}, "factor: Field required"),
    ],
    ids=repr,
)
def test_a_setting_that_is_missing_or_wrong_is_named(
    tmp_path: Path, scaling: dict[str, Any], problem: str
) -> None:
    assert f"config.json: rope scaling: {problem}" in refusal(
        write(tmp_path, {"rope_scaling": scaling})
    )


def test_every_scaling_survives_the_manifest(tmp_path: Path) -> None:
    for changes, _ in SCALINGS.values():
        config = load_config(write(tmp_path, changes))
        assert ModelConfig.model_validate_json(json.dumps(config.model_dump())) == config


def test_alpaca2_has_no_scaling(tmp_path: Path) -> None:
    assert ALPACA2["rope_scaling"] is None
    assert load_config(write(tmp_path, {})).rope_scaling is None
