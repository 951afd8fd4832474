"""Claims about export.config: a config.json means what transformers reads, or why not."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from export.config import load_config
from export.errors import ConfigError

# The config.json of Chinese-Alpaca-2-7B, without token ids.
ALPACA2: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0",
    "vocab_size": 55296,
}
ABSENT = object()


def write(directory: Path, changes: dict[str, Any]) -> Path:
    values = {key: value for key, value in {**ALPACA2, **changes}.items() if value is not ABSENT}
    (directory / "config.json").write_text(json.dumps(values))
    return directory


def refusal(model: Path) -> str:
    """The message, which is one line, whatever is wrong."""
    with pytest.raises(ConfigError) as caught:
        load_config(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_alpaca2_reads_as_the_paper_says(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, {}))
    assert config.model_dump() == {
        "vocab_size": 55296,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "qk_norm": False,
        "sliding_window": None,
    }


def test_the_mini_checkpoint_has_heads_of_64(shared_data: Path) -> None:
    config = load_config(shared_data / "alpaca2-mini")
    assert (config.num_hidden_layers, config.head_dim, config.vocab_size) == (4, 64, 55296)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"num_key_value_heads": 8}, id="gqa"),
        pytest.param({"num_key_value_heads": 1}, id="mqa"),
        pytest.param({"num_key_value_heads": ABSENT}, id="llama 1"),
        pytest.param({"num_key_value_heads": None, "head_dim": None}, id="null sizes"),
        pytest.param({"head_dim": 64}, id="explicit head_dim"),
        pytest.param({"tie_word_embeddings": True}, id="tied"),
        pytest.param({"rope_theta": 1000000}, id="whole theta"),
        pytest.param({"rope_scaling": {"type": "linear", "factor": 4}}, id="linear"),
        pytest.param(
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            id="rope_type",
        ),
        pytest.param({"rope_scaling": {"rope_type": "default"}}, id="default rope_type"),
        pytest.param(
            {
                "rope_scaling": ABSENT,
                "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
            },
            id="transformers 5",
        ),
        pytest.param(
            {
                "rope_scaling": ABSENT,
                "rope_parameters": {"rope_type": "linear", "rope_theta": 1e6, "factor": 4.0},
            },
            id="transformers 5, linear",
        ),
        pytest.param(
            {
                "rope_scaling": {"rope_type": "linear", "factor": 4.0},
                "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
            },
            id="both generations",
        ),
        pytest.param(
            dict.fromkeys(
                ("max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "hidden_act"),
                ABSENT,
            ),
            id="defaults",
        ),
    ],
)
def test_a_config_means_what_it_means_to_transformers(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = load_config(write(tmp_path, changes))
    theirs = LlamaConfig.from_pretrained(tmp_path)
    rope = theirs.rope_parameters
    assert rope is not None
    own = {"rope_theta", "rope_scaling", "qk_norm", "sliding_window"}
    same = set(type(config).model_fields) - own
    assert {key: getattr(config, key) for key in same} == {k: getattr(theirs, k) for k in same}
    assert config.rope_theta == rope["rope_theta"]
    scaling = config.rope_scaling
    assert (scaling and scaling.model_dump()) == (
        {"rope_type": "linear", "factor": rope["factor"]} if "factor" in rope else None
    )


def test_a_missing_directory_and_a_missing_file_are_named(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere")
    assert f"no config.json in {tmp_path}" in refusal(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"{'a': 1}", b"\xff\xfe\x00", b"\x80\x02}."])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config.json").write_bytes(text)
    assert f"{tmp_path / 'config.json'} is not JSON" in refusal(tmp_path)


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("3", "int"), ('"llama"', "str")])
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert f"is not a JSON object; got {kind}" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("key", "got", "allowed"),
    [
        ("architectures", ["Gemma3ForCausalLM"], "LlamaForCausalLM"),
        ("architectures", ["LlamaForCausalLM", "Qwen2ForCausalLM"], "LlamaForCausalLM"),
        ("model_type", "mistral", "llama"),
        ("hidden_act", "gelu", "silu"),
        ("attention_bias", True, "False"),
        ("mlp_bias", True, "False"),
        ("sliding_window", 4096, "None"),
        ("num_key_value_heads", 5, "a divisor of 32"),
        ("num_key_value_heads", 64, "a divisor of 32"),
        ("head_dim", 127, "an even number"),
    ],
)
def test_what_the_decoder_cannot_do_is_refused_with_key_got_and_allowed(
    tmp_path: Path, key: str, got: object, allowed: str
) -> None:
    message = refusal(write(tmp_path, {key: got}))
    assert f"{tmp_path / 'config.json'}: {key}" in message
    assert f"got {got}" in message
    assert f"allowed: {allowed}" in message.translate({ord(mark): None for mark in "[]'"})


@pytest.mark.parametrize("spelling", ["type", "rope_type"])
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_another_rotary_scaling_is_refused_by_name(tmp_path: Path, key: str, spelling: str) -> None:
    for kind in ("longrope", "su", "proportional", "ntk"):
        message = refusal(write(tmp_path, {key: {spelling: kind, "factor": 8.0}}))
        assert f"got {kind}; allowed: default, linear, dynamic, yarn, llama3" in message


def test_a_rotary_setting_that_would_be_ignored_is_refused_by_name(tmp_path: Path) -> None:
    scaling = {"type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}
    message = refusal(write(tmp_path, {"rope_scaling": scaling}))
    assert "config.json: rope setting: partial_rotary_factor; got 0.5; allowed: 1" in message
    message = refusal(write(tmp_path, {"rope_scaling": {"type": "linear", "factor": 2, "beta": 1}}))
    assert "config.json: rope scaling: unknown key linear.beta" in message


SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)


@pytest.mark.parametrize("key", SIZES)
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    message = refusal(write(tmp_path, {key: ABSENT}))
    assert f"{tmp_path / 'config.json'} lacks {key}" in message


@pytest.mark.parametrize("value", [-4, 0, 1.5, "64", True, [64], {}], ids=repr)
@pytest.mark.parametrize("key", [*SIZES, "num_key_value_heads", "head_dim"])
def test_a_size_that_is_no_positive_whole_number_is_refused(
    tmp_path: Path, key: str, value: object
) -> None:
    message = refusal(write(tmp_path, {key: value}))
    expected = f"{key}; got {value!r}; allowed: a whole number above 0"
    assert message == f"{tmp_path / 'config.json'}: {expected}"


@pytest.mark.parametrize("value", [-1e-5, 0, "1e-5", True, [1e-5], {}, None], ids=repr)
@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta"])
def test_an_epsilon_or_theta_that_is_no_positive_number_is_refused(
    tmp_path: Path, key: str, value: object
) -> None:
    message = refusal(write(tmp_path, {key: value}))
    assert f"{tmp_path / 'config.json'}: {key}: Input should be" in message
    assert f"got {value!r}" in message


@pytest.mark.parametrize("key", [*SIZES, "max_position_embeddings", "hidden_act"])
def test_null_is_no_value_of_a_required_key(tmp_path: Path, key: str) -> None:
    message = refusal(write(tmp_path, {key: None}))
    assert f"{tmp_path / 'config.json'}: {key}" in message
    assert "got None" in message


@pytest.mark.parametrize("factor", ["4", 0, -1, None, ABSENT])
def test_linear_scaling_needs_a_positive_factor(tmp_path: Path, factor: object) -> None:
    scaling = {"type": "linear", "factor": factor}
    if factor is ABSENT:
        del scaling["factor"]
    message = refusal(write(tmp_path, {"rope_scaling": scaling}))
    assert "config.json: rope scaling: factor: " in message
    assert factor is ABSENT or f"got {factor!r}" in message


@pytest.mark.parametrize("scaling", ["linear", 4.0, [4.0], True])
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_a_rotary_scaling_that_is_no_object_is_refused(
    tmp_path: Path, key: str, scaling: object
) -> None:
    message = refusal(write(tmp_path, {key: scaling}))
    assert f"rope scaling; got {scaling!r}; allowed: an object" in message
