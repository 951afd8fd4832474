"""Claims about export.lora: what cannot be merged is refused by name and shape."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from export.errors import CheckpointError, ConfigError
from export.lora import open_adapter
from tests.export.adapters import (
    BASE,
    LINEARS,
    PREFIX,
    SETTINGS,
    Tensors,
    factors,
    write_adapter,
)

RANKS = dict.fromkeys(LINEARS, 4)
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
Q = "model.layers.1.self_attn.q_proj"

Edit = tuple[Callable[[Tensors], object], dict[str, object], str]
A, B = (f"{PREFIX}{Q}.lora_{factor}.weight" for factor in "AB")
REFUSED: dict[str, Edit] = {
    "IA3": (lambda _: 0, {"peft_type": "IA3"}, "peft_type; got 'IA3'; allowed: LORA; merge it"),
    "DoRA": (lambda _: 0, {"use_dora": True}, "use_dora; got True; allowed: False; merge it"),
    "biases": (lambda _: 0, {"bias": "all"}, "bias; got 'all'; allowed: none"),
    "fan in": (lambda _: 0, {"fan_in_fan_out": True}, "fan_in_fan_out; got True; allowed: False"),
    "PiSSA": (lambda _: 0, {"init_lora_weights": "pissa"}, "init_lora_weights; got 'pissa'"),
    "unknown key": (lambda _: 0, {"some_day": 1}, "some_day; got 1; allowed: no such key"),
    "tokens": (lambda _: 0, {"trainable_token_indices": [3]}, "trainable_token_indices; got [3]"),
    "pattern": (lambda _: 0, {"alpha_pattern": {".*q": 2}}, "alpha_pattern; got '.*q'"),
    "rank 0": (lambda _: 0, {"r": 0}, "r: Input should be greater than or equal to 1; got 0"),
    "no rank": (lambda _: 0, {"r": None}, "r: Field required"),
    "other rank": (
        lambda _: 0,
        {"r": 8},
        "lora_A of {file}; got (4, 96); allowed: (8, 96)",
    ),
    "wider base": (
        lambda t: t.update({A: torch.ones(4, 128)}),
        {},
        f"{Q}.lora_A of {{file}}; got (4, 128); allowed: (4, 64)",
    ),
    "longer base": (
        lambda t: t.update({B: torch.ones(128, 4)}),
        {},
        f"{Q}.lora_B of {{file}}; got (128, 4); allowed: (64, 4)",
    ),
    "integers": (
        lambda t: t.update({A: t[A].to(torch.int8)}),
        {},
        f"tensor {Q}.lora_A of {{file}}; got I8; allowed: float16",
    ),
    "half a pair": (lambda t: t.pop(B), {}, f"{{file}} lacks lora_B of {Q}; copy"),
    "a module too few": (
        lambda t: (t.pop(A), t.pop(B)),
        {},
        f"{{file}} has no tensors of modules that its settings name; got {Q}; give the base",
    ),
    "a layer too many": (
        lambda t: t.update({A.replace("layers.1", "layers.2"): t[A].clone()}),
        {},
        "that are not in its settings or its base; got model.layers.2.self_attn.q_proj; give",
    ),
    "DoRA's magnitudes": (
        lambda t: t.update({f"{PREFIX}{Q}.lora_magnitude_vector": torch.ones(64)}),
        {},
        f"cannot be merged into this base; got {PREFIX}{Q}.lora_magnitude_vector (64,); allowed",
    ),
    "a bias": (
        lambda t: t.update({f"{PREFIX}{Q}.bias": torch.ones(64)}),
        {},
        f"got {PREFIX}{Q}.bias (64,); allowed: lora_A and lora_B",
    ),
    "a module not named": (
        lambda t: t.update({f"{PREFIX}model.norm.weight": torch.ones(64)}),
        {},
        "not in its settings or its base; got model.norm",
    ),
    "a module not saved": (
        lambda _: 0,
        {"modules_to_save": ["lm_head"]},
        "no tensors of modules that its settings name; got lm_head",
    ),
    "an embedding alone": (
        lambda t: t.update({f"{PREFIX}{EMBEDDING}.weight": torch.ones(700, 64)}),
        {},
        "got 700 rows beside 640; allowed: the same number for model.embed_tokens and lm_head",
    ),
    "no tokenizer": (
        lambda t: t.update(
            {f"{PREFIX}{name}.weight": torch.ones(700, 64) for name in (EMBEDDING, HEAD)}
        ),
        {},
        "no tokenizer.model in {directory}, whose vocabulary is not its base's; got 700 rows for",
    ),
    "nothing": (
        lambda t: t.clear(),
        {"target_modules": []},
        "{file} has no tensors; copy or download it again",
    ),
}


@pytest.mark.parametrize(("edit", "changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_merged_is_refused_by_name_and_shape(
    tmp_path: Path, edit: Callable[[Tensors], object], changes: dict[str, object], said: str
) -> None:
    tensors = factors(RANKS)
    edit(tensors)
    adapter = write_adapter(tmp_path / "adapter", tensors, **changes)
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        open_adapter(adapter, BASE)
    file = adapter / "adapter_model.safetensors"
    assert said.format(file=file, directory=adapter) in str(caught.value)


def test_a_head_that_is_the_embedding_is_not_changed(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", factors({HEAD: 4}), target_modules=[HEAD])
    tied = BASE.model_copy(update={"tie_word_embeddings": True})
    with pytest.raises(CheckpointError, match=r"whose config.json ties them; got lm_head; merge"):
        open_adapter(adapter, tied)


def test_a_directory_without_an_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"no adapter_config.json in {tmp_path}; give the dir"):
        open_adapter(tmp_path, BASE)
    (tmp_path / "adapter_config.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(
        CheckpointError, match=r"allowed: one of adapter_model.safetensors, adapter"
    ):
        open_adapter(tmp_path, BASE)
