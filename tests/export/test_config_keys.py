"""Claims about the keys of config.json: followed, harmless, refused, or said to be unknown."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from export.config import check_context, load_config
from export.config_keys import FIXED, KNOWN, SIZES
from export.errors import ConfigError
from export.rope_settings import num_positions
from profiles import load_profile
from tests.models import TINY
from tests.paths import DATA

BASE: dict[str, Any] = {
    **TINY.model_dump(exclude={"rope_scaling"}),
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
}


def write(directory: Path, **changes: object) -> Path:
    (directory / "config.json").write_text(json.dumps({**BASE, **changes}))
    return directory


def refusal(model: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alibi", True),
        ("attention_bias", True),
        ("attention_multiplier", 0.0078125),
        ("attn_logit_softcapping", 50.0),
        ("bias", True),
        ("clip_qkv", 8.0),
        ("compression_config", {"format": "float-quantized"}),
        ("embedding_multiplier", 12.0),
        ("final_logit_softcapping", 30.0),
        ("hidden_act", "gelu"),
        ("is_encoder_decoder", True),
        ("layer_types", ["sliding_attention"]),
        ("layer_types", "full_attention"),
        ("logits_scaling", 8.0),
        ("mlp_bias", True),
        ("moe_intermediate_size", 512),
        ("n_routed_experts", 64),
        ("no_rope_layers", [1, 0]),
        ("num_experts", 8),
        ("num_experts_per_tok", 2),
        ("num_local_experts", 8),
        ("partial_rotary_factor", 0.5),
        ("q_lora_rank", 1536),
        ("qk_norm", True),
        ("residual_multiplier", 0.22),
        ("rope_pct", 0.25),
        ("rotary_pct", 0.25),
        ("scale_emb", 12),
        ("sliding_window", 4096),
        ("text_config", {"hidden_size": 64}),
        ("use_qk_norm", True),
        ("vision_config", {"depth": 2}),
    ],
)
def test_a_key_that_would_change_the_model_is_refused_by_name(
    tmp_path: Path, key: str, value: object
) -> None:
    message = refusal(write(tmp_path, **{key: value}))
    assert message.startswith(f"{tmp_path / 'config.json'}: {key}; got {value}; allowed: ")


def test_the_one_value_that_the_decoder_implements_is_taken(tmp_path: Path) -> None:
    for key, values in FIXED.items():
        for value in values:
            assert load_config(write(tmp_path, **{key: value})) == TINY, key
    load_config(write(tmp_path, layer_types=["full_attention"]))


@pytest.mark.parametrize("tp", [1, 2, 8, None])
def test_a_way_to_add_up_the_same_products_is_harmless(tmp_path: Path, tp: int | None) -> None:
    """13B configurations had pretraining_tp 2."""
    assert load_config(write(tmp_path, pretraining_tp=tp)) == TINY


@pytest.mark.parametrize("where", ["rope_scaling", "rope_parameters"])
def test_partial_positions_are_refused_inside_the_rotary_settings_too(
    tmp_path: Path, where: str
) -> None:
    for kind in ("default", "linear"):
        settings = {"rope_type": kind, "factor": 2.0, "partial_rotary_factor": 0.5}
        message = refusal(write(tmp_path, **{where: settings}))
        assert "partial_rotary_factor; got 0.5; allowed: 1" in message
        load_config(write(tmp_path, **{where: {**settings, "partial_rotary_factor": 1.0}}))


def test_what_transformers_writes_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = TINY.model_dump(exclude={"rope_scaling"})
    LlamaConfig(**values, architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path)
    assert load_config(tmp_path) == TINY
    assert capsys.readouterr().err == ""
    assert {key for key in LlamaConfig().to_dict() if not key.startswith("_")} <= KNOWN


def test_an_unknown_key_is_said_once_and_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, depth_scale=2, _note=1, wide=True)
    for _ in range(2):
        assert load_config(tmp_path) == TINY
    said = capsys.readouterr().err
    assert said == f"{tmp_path / 'config.json'}: unknown keys are not followed: depth_scale, wide\n"


@pytest.mark.parametrize("key", [*SIZES, "max_position_embeddings"])
@pytest.mark.parametrize("value", [10**9 + 8, 2**63, 10**30])
def test_a_size_beyond_any_model_is_refused_with_the_upper_end(
    tmp_path: Path, key: str, value: int
) -> None:
    """plan of 10^9 layers ran for ever."""
    message = refusal(write(tmp_path, **{"num_key_value_heads": None, key: value}))
    assert "less than or equal to 1" in message or "a divisor of" in message
    assert message.startswith(f"{tmp_path / 'config.json'}: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"rms_norm_eps": 2.0},
        {"rope_theta": 1e13},
        {"rope_scaling": {"type": "linear", "factor": 1e13}},
    ],
)
def test_a_number_beyond_any_model_is_refused_with_the_upper_end(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    assert "less than or equal to 1" in refusal(write(tmp_path, **changes))


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"rms_norm_eps": Infinity}', "[" * 10**5, '{"a": 1, "a": 2}']
)
def test_json_that_two_readers_read_in_two_ways_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert f"{tmp_path / 'config.json'} is not JSON: " in refusal(tmp_path)


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(BASE).encode())
    assert load_config(tmp_path) == TINY


@pytest.mark.parametrize(
    ("positions", "factor", "expected", "other"),
    [
        (16384, 4.0, 16384, "65,536"),
        (4096, 4.0, 4096, "16,384"),
        (4096, 0.5, 2048, "4,096"),
        (4096, 1.0, 4096, None),
    ],
)
@pytest.mark.parametrize("where", ["rope_scaling", "rope_parameters"])
def test_of_two_readings_of_the_length_the_shorter_is_taken_and_said_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    positions: int,
    factor: float,
    expected: int,
    other: str | None,
    where: str,
) -> None:
    """The 16K members of the family write the length after scaling, others the one before it."""
    scaling = {"rope_type": "linear", "factor": factor, "rope_theta": 1e4}
    write(tmp_path, max_position_embeddings=positions, **{where: scaling})
    for _ in range(2):
        assert num_positions(load_config(tmp_path)) == expected
    said = capsys.readouterr().err
    if other is None:
        assert said == ""
    else:
        assert said.count("\n") == 1
        assert f"is taken for {expected:,} positions, not for {other}" in said


def test_a_profile_may_not_cache_more_than_the_shorter_reading(tmp_path: Path) -> None:
    scaling = {"type": "linear", "factor": 2.0}
    profile = load_profile(str(DATA / "small.toml"))  # 40 rows
    check_context(load_config(write(tmp_path, max_position_embeddings=40)), profile)
    for changes in (
        {"max_position_embeddings": 39},
        {"max_position_embeddings": 39, "rope_scaling": scaling},
        {"max_position_embeddings": 64, "rope_scaling": {**scaling, "factor": 0.5}},
    ):
        with pytest.raises(ConfigError, match="caches more positions than the model has; got 40"):
            check_context(load_config(write(tmp_path, **changes)), profile)


ADAPTERS = {
    "adapter_config.json": json.dumps(
        {"peft_type": "LORA", "base_model_name_or_path": "llama-2-7b", "r": 64}
    ),
    "adapter_model.bin": "",
}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (ADAPTERS, "a LoRA adapter of llama-2-7b"),
        ({"adapter_config.json": '{"peft_type": "IA3"}'}, "a IA3 adapter of an unknown base"),
        ({"adapter_config.json": "{}"}, "a PEFT adapter of an unknown base"),
        (
            {"adapter_config.json": '{"peft_type": "LORA", "base_model_name_or_path": ""}'},
            "a LoRA adapter of an unknown base",
        ),
        ({"adapter_model.safetensors": ""}, "a PEFT adapter of an unknown base"),
        ({"adapter_model-00001-of-00002.safetensors": ""}, "a PEFT adapter of an unknown base"),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_is_called_what_it_is_alone_or_beside_a_model(
    tmp_path: Path, files: dict[str, str], said: str, beside: bool
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    if beside:
        write(tmp_path)
    message = refusal(tmp_path)
    assert (
        f"{tmp_path} holds {said} {'beside its weights' if beside else 'and no model'}" in message
    )
    assert ("merge it into its base" if "IA3" in said else "the adapter with --lora") in message


@pytest.mark.parametrize("text", ["{bad", "[]", "[" * 10**5, ""])
def test_an_adapter_whose_settings_cannot_be_read_is_refused_too(tmp_path: Path, text: str) -> None:
    (write(tmp_path) / "adapter_config.json").write_text(text)
    assert f"{tmp_path / 'adapter_config.json'} is not" in refusal(tmp_path)
