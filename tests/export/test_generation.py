"""Claims about generation_config.json: each key is followed as transformers does, or refused.

The truth is transformers: which keys there are, and the scores that it draws the next token from.
"""

import inspect
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from export.errors import CheckpointError
from export.generation import read_generation
from runtime.sampling.defaults import params_from
from runtime.sampling.generation_keys import (
    FOLLOWED,
    HARMLESS,
    NEUTRAL,
    SAMPLING,
    SAMPLING_NEUTRAL,
)
from runtime.sampling.params import SamplingParams
from tests.models import TINY

EOS = 2
TABLES = (FOLLOWED, SAMPLING, NEUTRAL, SAMPLING_NEUTRAL, HARMLESS)


def read(model: Path, generation: object, **config: object) -> SamplingParams:
    """The settings that the bundle of a model directory has."""
    (model / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (model / "generation_config.json").write_text(json.dumps(generation))
    data = json.loads(read_generation(model, TINY, EOS))
    return params_from(data, "bundle", EOS, CheckpointError)


def refusal(model: Path, generation: object, **config: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(model, generation, **config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def config_of(**settings: Any) -> GenerationConfig:
    return GenerationConfig(**settings, pad_token_id=0)  # type: ignore[no-untyped-call]


def test_every_key_of_transformers_is_in_one_table() -> None:
    theirs = {key for key in vars(config_of()) if not key.startswith("_")}
    ours = [key for table in TABLES for key in table]
    assert theirs - {"do_sample"} <= set(ours)
    assert len(ours) == len(set(ours))
    assert "transformers_version" in inspect.getsource(GenerationConfig)


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(3)
    values = TINY.model_dump(exclude={"rope_scaling"})
    return LlamaForCausalLM(LlamaConfig(**values, initializer_range=0.5))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"top_k": None},
        {"top_k": 7},
        {"top_k": 0},
        {"temperature": None, "top_k": 1000},
        {"temperature": 0.4},
        {"temperature": 1.7, "top_k": 3},
        {"repetition_penalty": None, "top_p": 1.0},
    ],
)
def test_a_file_that_samples_is_drawn_from_as_transformers_draws(
    llama: LlamaForCausalLM, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """A file without top_k means the 50 likeliest; all of them were drawn from."""
    ours = read(tmp_path, {"do_sample": True, "eos_token_id": EOS, **settings})
    step = llama.generate(
        torch.tensor([[1, 300, 400, 500]]),
        generation_config=config_of(do_sample=True, **settings),
        max_new_tokens=1,
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    scores, logits = step.scores[0][0].numpy(), step.logits[0][0].numpy()
    kept = np.flatnonzero(np.isfinite(scores))
    assert len(kept) == min(ours.top_k or TINY.vocab_size, TINY.vocab_size)
    likeliest = np.argsort(-logits)[: len(kept)]
    assert set(kept) == set(likeliest)
    if len(kept) > 1:
        first, last = likeliest[0], likeliest[-1]
        ratio = (logits[first] - logits[last]) / (scores[first] - scores[last])
        assert math.isclose(ratio, ours.temperature, rel_tol=1e-4)


@pytest.mark.parametrize("max_length", [5, 9, 12])
def test_max_length_counts_the_prompt_as_in_transformers(
    llama: LlamaForCausalLM, tmp_path: Path, max_length: int
) -> None:
    ours = read(tmp_path, {"max_length": max_length})
    assert (ours.max_length, ours.max_tokens) == (max_length, None)
    config = config_of(max_length=max_length)
    whole = llama.generate(torch.tensor([[1, 300, 400]]), generation_config=config)
    assert whole.shape[1] == max_length


def test_max_new_tokens_goes_before_max_length(tmp_path: Path) -> None:
    ours = read(tmp_path, {"max_length": 4096, "max_new_tokens": 7})
    assert (ours.max_length, ours.max_tokens) == (None, 7)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bad_words_ids", [[5]]),
        ("begin_suppress_tokens", [5]),
        ("diversity_penalty", 0.5),
        ("dola_layers", "high"),
        ("encoder_no_repeat_ngram_size", 2),
        ("encoder_repetition_penalty", 1.2),
        ("exponential_decay_length_penalty", [10, 1.1]),
        ("forced_bos_token_id", 5),
        ("forced_eos_token_id", 2),
        ("guidance_scale", 1.5),
        ("max_time", 10.0),
        ("min_length", 10),
        ("min_new_tokens", 3),
        ("no_repeat_ngram_size", 3),
        ("num_beam_groups", 2),
        ("num_beams", 4),
        ("num_return_sequences", 2),
        ("penalty_alpha", 0.6),
        ("sequence_bias", [[[5], 1.0]]),
        ("stop_strings", ["</s>"]),
        ("suppress_tokens", [5]),
        ("token_healing", True),
        ("watermarking_config", {"bias": 2.0}),
    ],
)
def test_a_key_that_would_change_answers_and_is_not_followed_is_refused_by_file_and_key(
    tmp_path: Path, key: str, value: object
) -> None:
    message = refusal(tmp_path, {key: value})
    assert message.startswith(f"{tmp_path / 'generation_config.json'}: {key} is not followed here;")
    assert f"got {value!r}; allowed: " in message
    assert refusal(tmp_path, {"do_sample": True, key: value})
    assert read(tmp_path, {key: None}) == SamplingParams(stop_token_ids=(EOS,))
    (tmp_path / "generation_config.json").unlink()
    assert f"{tmp_path / 'config.json'}: {key} is not followed" in refusal(
        tmp_path, None, **{key: value}
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("epsilon_cutoff", 3e-4), ("eta_cutoff", 3e-4), ("top_h", 0.4), ("typical_p", 0.9)],
)
def test_a_key_of_sampling_is_refused_only_where_there_is_sampling(
    tmp_path: Path, key: str, value: float
) -> None:
    assert f"{key} is not followed here" in refusal(tmp_path, {"do_sample": True, key: value})
    assert read(tmp_path, {key: value}).temperature == 0


def test_values_that_change_nothing_are_taken(tmp_path: Path) -> None:
    neutral = {key: value for key, values in NEUTRAL.items() for value in values[:1]}
    harmless = dict.fromkeys(HARMLESS, 1)
    settings = {**neutral, **harmless, "_from_model_config": True, "temperature": 0.6}
    assert read(tmp_path, settings) == SamplingParams(stop_token_ids=(EOS,))


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    assert "generation_config.json: unknown key mirostat;" in refusal(tmp_path, {"mirostat": 2})


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [2, 639]}, {"eos_token_id": 5}, (2, 639)),
        ({}, {"eos_token_id": 639}, (639,)),
        ({"eos_token_id": None}, {"eos_token_id": [2, 639]}, (2, 639)),
        ({}, {}, (EOS,)),
        (None, {"eos_token_id": 639}, (639,)),
        (None, {"eos_token_id": [2, 639]}, (2, 639)),
        (None, {}, (2,)),
        (None, {"eos_token_id": None}, (EOS,)),
    ],
)
def test_eos_comes_from_the_first_file_that_says_it(
    tmp_path: Path, generation: object, config: dict[str, object], expected: tuple[int, ...]
) -> None:
    assert read(tmp_path, generation, **config).stop_token_ids == expected


@pytest.mark.parametrize("eos", [640, [2, 640], -1])
def test_an_end_that_the_model_cannot_say_is_refused(tmp_path: Path, eos: object) -> None:
    message = refusal(tmp_path, {"eos_token_id": eos})
    assert "generation_config.json: eos_token_id" in message
    assert "ids from 0 to 639" in message


def test_an_older_checkpoint_says_in_config_json_how_to_sample(tmp_path: Path) -> None:
    ours = read(tmp_path, None, do_sample=True, top_p=0.9, vocab_size=640, num_beams=1)
    assert ours == SamplingParams(temperature=1.0, top_k=50, top_p=0.9, stop_token_ids=(2,))


@pytest.mark.parametrize("data", [b"{bad", b"[]", b"", b"[" * 100_000, b'{"top_p": NaN}', b"\xff"])
def test_a_file_that_is_no_json_object_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "generation_config.json").write_bytes(data)
    assert f"{tmp_path / 'generation_config.json'} is not" in refusal(tmp_path, None)
