"""What can be refused is refused before the first weight is read or anything is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from export.errors import CheckpointError, ConfigError
from export.exporter import export_bundle
from export.parameters import expected_shapes
from profiles import load_profile
from runtime.progress import Silent
from tests.models import TINY
from tests.paths import DATA

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 13862000000\n"
FP8 = "model.layers.0.mlp.up_proj.weight"


class NoWork(Silent):
    """Fails when a step begins."""

    def step(self, text: str) -> None:
        raise AssertionError(f"the work has begun: {text}")

    def expect(self, num_bytes: int) -> None:
        raise AssertionError("weights are to be written")


@pytest.fixture
def model(tmp_path: Path, miniature_dir: Path) -> Path:
    """A checkpoint of one layer with the miniature's tokenizer."""
    directory = tmp_path / "model"
    directory.mkdir()
    shutil.copy(miniature_dir / "tokenizer.model", directory)
    values = TINY.model_dump(exclude={"rope_scaling"})
    write(directory, "config.json", {**values, "architectures": ["LlamaForCausalLM"]})
    save_file(tensors(), directory / "model.safetensors")
    return directory


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.ones(shape) for name, shape in expected_shapes(TINY).items()}


def write(model: Path, name: str, content: object) -> None:
    (model / name).write_text(json.dumps(content))


def edit(model: Path, **changes: object) -> None:
    values = json.loads((model / "config.json").read_text())
    write(model, "config.json", {**values, **changes})


def with_fp8(model: Path) -> None:
    changed = tensors() | {FP8: torch.ones(96, 64).to(torch.float8_e4m3fn)}
    save_file(changed, model / "model.safetensors")


def with_two_sets(model: Path) -> None:
    torch.save({name: tensor * 2 for name, tensor in tensors().items()}, model / BIN)


BIN = "pytorch_model.bin"
Spoil = Callable[[Path], object]
SPOILS: dict[str, tuple[Spoil, str]] = {
    "dangling added tokens": (
        lambda m: (m / "added_tokens.json").symlink_to("/nowhere/added_tokens.json"),
        "added_tokens.json is a link to nowhere",
    ),
    "dangling sampling": (
        lambda m: (m / "generation_config.json").symlink_to("/nowhere/file"),
        "generation_config.json is a link to nowhere",
    ),
    "broken sampling": (
        lambda m: (m / "generation_config.json").write_text("{bad"),
        "generation_config.json is not JSON",
    ),
    "bad sampling": (
        lambda m: write(m, "generation_config.json", {"do_sample": True, "top_k": -1}),
        "generation_config.json: top_k cannot be used",
    ),
    "beams": (
        lambda m: write(m, "generation_config.json", {"num_beams": 4}),
        "generation_config.json: num_beams is not followed",
    ),
    "empty tokenizer": (
        lambda m: (m / "tokenizer.model").write_bytes(b""),
        "tokenizer.model is not a SentencePiece model; got an empty file",
    ),
    "pointer to a tokenizer": (
        lambda m: (m / "tokenizer.model").write_text(POINTER),
        "tokenizer.model is a git-lfs pointer",
    ),
    "pointer to a config": (
        lambda m: (m / "config.json").write_text(POINTER),
        "config.json is a git-lfs pointer",
    ),
    "another chat template": (
        lambda m: write(m, "tokenizer_config.json", {"chat_template": "<|user|>"}),
        "tokenizer_config.json: chat_template: the chat template leaves messages out",
    ),
    "an adapter beside": (
        lambda m: write(m, "adapter_config.json", {"peft_type": "LORA", "r": 8}),
        "holds a LoRA adapter",
    ),
    "an added token in the place of a piece": (
        lambda m: write(m, "added_tokens.json", {"<|im_start|>": 639}),
        "id 639 has two texts",
    ),
    "a mixture": (lambda m: edit(m, num_local_experts=8), "config.json: num_local_experts; got 8"),
    "partial positions": (
        lambda m: edit(m, partial_rotary_factor=0.5),
        "config.json: partial_rotary_factor; got 0.5",
    ),
    "too few positions": (
        lambda m: edit(m, max_position_embeddings=39),
        "caches more positions than the model has; got 40; allowed: up to 39",
    ),
    "float8 without scales": (with_fp8, f"tensor {FP8}; got F8_E4M3"),
    "two sets": (with_two_sets, "two sets of weights that differ"),
}


@pytest.mark.parametrize("kind", SPOILS)
def test_what_can_be_refused_is_refused_before_any_work(model: Path, kind: str) -> None:
    spoil, said = SPOILS[kind]
    spoil(model)
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        export_bundle(model, load_profile(str(DATA / "small.toml")), model.parent / "out", NoWork())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(model.parent.iterdir()) == [model]


@pytest.mark.parametrize("name", ["notes.json", "training.model", "link"])
def test_a_link_to_nowhere_that_nothing_reads_is_passed_over(model: Path, name: str) -> None:
    (model / name).symlink_to("/nowhere/file")
    bundle = export_bundle(model, load_profile(str(DATA / "small.toml")), model.parent / "out")
    assert name not in bundle.manifest.provenance.source_files
    assert {"config.json", "tokenizer.model"} == bundle.manifest.provenance.source_files.keys()
