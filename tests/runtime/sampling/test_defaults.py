"""Claims about the sampling defaults that a bundle's generation_config.json gives."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.reader import Bundle, load_bundle
from runtime.errors import UserError
from runtime.sampling.defaults import default_params
from runtime.sampling.params import SamplingParams
from tests.models import bare_manifest

EOS = 5  # the tokenizer's, which counts where the file names none


def defaults_of(directory: Path, config: bytes | dict[str, Any]) -> SamplingParams:
    data = config if isinstance(config, bytes) else json.dumps(config).encode()
    (directory / "generation_config.json").write_bytes(data)
    return default_params(Bundle(path=directory, manifest=bare_manifest()), EOS)


@pytest.mark.parametrize("do_sample", [{}, {"do_sample": False}])
def test_without_do_sample_the_answer_is_greedy_whatever_the_other_values(
    do_sample: dict[str, bool], tmp_path: Path
) -> None:
    config = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.1, **do_sample}
    assert defaults_of(tmp_path, config) == SamplingParams(stop_token_ids=(EOS,))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.2, "top_p": 0.9, "top_k": 40}, None),
        ({"temperature": 0.5, "min_p": 0.05}, None),
        ({"temperature": None, "top_k": None, "top_p": 0.9}, {"top_p": 0.9}),
        ({"top_k": 0}, None),
    ],
)
def test_do_sample_takes_over_the_values_of_the_same_name(
    config: dict[str, Any], expected: dict[str, Any] | None, tmp_path: Path
) -> None:
    params = defaults_of(tmp_path, {"do_sample": True, **config})
    values = {"temperature": 1.0, "top_k": 50, **(config if expected is None else expected)}
    assert params == SamplingParams(stop_token_ids=(EOS,), **values)


@pytest.mark.parametrize(
    ("eos", "expected"),
    [
        ({}, (EOS,)),
        ({"eos_token_id": None}, (EOS,)),
        ({"eos_token_id": 2}, (2,)),
        ({"eos_token_id": [2, 7]}, (2, 7)),
        ({"eos_token_id": []}, ()),
    ],
)
def test_eos_may_be_one_id_or_several_or_left_to_the_tokenizer(
    eos: dict[str, Any], expected: tuple[int, ...], tmp_path: Path
) -> None:
    """A null ended in a TypeError."""
    assert defaults_of(tmp_path, eos).stop_token_ids == expected


def test_max_new_tokens_and_repetition_penalty_hold_for_greedy_too(tmp_path: Path) -> None:
    params = defaults_of(tmp_path, {"max_new_tokens": 9, "repetition_penalty": 1.1})
    assert params == SamplingParams(stop_token_ids=(EOS,), max_tokens=9, repetition_penalty=1.1)
    nothing = defaults_of(tmp_path, {"max_new_tokens": None, "repetition_penalty": None})
    assert nothing == SamplingParams(stop_token_ids=(EOS,))


@pytest.mark.parametrize(
    "config",
    [b"", b"{", b"[]", b"null", b"7", b'"text"', b"\xff\xfe", b"[" * 100_000],
)
def test_a_file_that_is_no_json_object_is_refused_in_one_line(
    config: bytes, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"generation_config\.json") as refusal:
        defaults_of(tmp_path, config)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("temperature", -1, "temperature"),
        ("temperature", "warm", "temperature"),
        ("top_p", 0, "top_p"),
        ("top_k", 1.5, "top_k"),
        ("min_p", 2, "min_p"),
        ("repetition_penalty", 0, "repetition_penalty"),
        ("max_new_tokens", 0, "max_tokens"),
        ("max_length", 0, "max_length"),
        ("eos_token_id", "</s>", "stop_token_ids"),
        ("eos_token_id", 1.5, "stop_token_ids"),
        ("eos_token_id", True, "stop_token_ids"),
        ("eos_token_id", {"id": 2}, "stop_token_ids"),
        ("eos_token_id", [[2]], "stop_token_ids"),
        ("do_sample", "yes", "true or false"),
        ("do_sample", 1, "true or false"),
    ],
)
def test_an_unusable_value_is_refused_in_one_line_that_names_the_setting(
    key: str, value: object, field: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"generation_config.json: {key}.*{field}") as refusal:
        defaults_of(tmp_path, {"do_sample": True, key: value})
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"generation_config\.json") as refusal:
        default_params(Bundle(path=tmp_path, manifest=bare_manifest()), 2)
    assert "\n" not in str(refusal.value)


def test_the_miniature_is_greedy_and_stops_at_its_eos(bundles: Path) -> None:
    params = default_params(load_bundle(bundles / "talk-int4"), 2)
    assert params == SamplingParams(stop_token_ids=(2,))
