"""Claims about export.checkpoint: the same tensors from every layout, or one line of why not."""

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from export.checkpoint import open_checkpoint
from export.errors import CheckpointError
from export.parameters import expected_shapes
from runtime.bundle.manifest import ModelConfig
from tests.models import TINY

CONFIG = TINY.model_copy(update={"num_hidden_layers": 2})
TIED = CONFIG.model_copy(update={"tie_word_embeddings": True})
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

Tensors = dict[str, Tensor]


@pytest.fixture
def tensors() -> Tensors:
    generator = torch.Generator().manual_seed(7)
    shapes = expected_shapes(CONFIG).items()
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes}


def single_bin(directory: Path, tensors: Tensors) -> None:
    torch.save(tensors, directory / "pytorch_model.bin")


def single_safetensors(directory: Path, tensors: Tensors) -> None:
    save_file(tensors, directory / "model.safetensors")


def indexed_bin(directory: Path, tensors: Tensors) -> None:
    weight_map: dict[str, str] = {}
    for shard, part in halves("pytorch_model-0000{}-of-00002.bin", tensors):
        torch.save(part, directory / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (directory / "pytorch_model.bin.index.json").write_text(index)


def indexed_safetensors(directory: Path, tensors: Tensors) -> None:
    weight_map: dict[str, str] = {}
    for shard, part in halves("model-0000{}-of-00002.safetensors", tensors):
        save_file(part, directory / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (directory / "model.safetensors.index.json").write_text(index)


def halves(pattern: str, tensors: Tensors) -> list[tuple[str, Tensors]]:
    items = list(tensors.items())
    middle = len(items) // 2
    return [(pattern.format(1), dict(items[:middle])), (pattern.format(2), dict(items[middle:]))]


LAYOUTS = [single_bin, single_safetensors, indexed_bin, indexed_safetensors]
Layout = Callable[[Path, Tensors], None]
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def read_all(directory: Path, config: ModelConfig = CONFIG) -> Tensors:
    checkpoint = open_checkpoint(directory, config)
    return {n: checkpoint.tensor(n.removeprefix("model.")) for n in expected_shapes(config)}


def refusal(directory: Path, config: ModelConfig = CONFIG) -> str:
    """The message, which is one line, whatever is wrong."""
    with pytest.raises(CheckpointError) as caught:
        read_all(directory, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@every_layout
def test_every_layout_gives_the_tensors_as_they_were_saved(
    tmp_path: Path, tensors: Tensors, layout: Layout, dtype: torch.dtype
) -> None:
    saved = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    layout(tmp_path, saved)
    read = read_all(tmp_path)
    assert read.keys() == saved.keys()
    for name, tensor in saved.items():
        assert read[name].dtype == dtype
        assert torch.equal(read[name], tensor), name


@every_layout
def test_saved_rotary_frequencies_are_ignored(
    tmp_path: Path, tensors: Tensors, layout: Layout
) -> None:
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(2) for i in range(2)}
    layout(tmp_path, tensors | buffers)
    assert read_all(tmp_path).keys() == tensors.keys()


@every_layout
def test_a_missing_tensor_is_named(tmp_path: Path, tensors: Tensors, layout: Layout) -> None:
    for missing in tensors:
        layout(tmp_path, {name: tensor for name, tensor in tensors.items() if name != missing})
        assert f"lacks {missing};" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name", ["model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias", "x"]
)
@every_layout
def test_an_unexpected_tensor_is_named(
    tmp_path: Path, tensors: Tensors, layout: Layout, name: str
) -> None:
    layout(tmp_path, tensors | {name: torch.ones(2)})
    assert f"has unexpected {name};" in refusal(tmp_path)


@every_layout
def test_a_misshapen_tensor_is_named_with_both_shapes(
    tmp_path: Path, tensors: Tensors, layout: Layout
) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    layout(tmp_path, tensors | {name: tensors[name].T.contiguous()})
    assert refusal(tmp_path) == f"tensor {name}; got (96, 64); allowed: (64, 96)"


@pytest.mark.parametrize("layout", [indexed_bin, indexed_safetensors])
def test_a_missing_shard_is_named(tmp_path: Path, tensors: Tensors, layout: Layout) -> None:
    layout(tmp_path, tensors)
    (second,) = tmp_path.glob("*-00002-of-00002.*")
    second.unlink()
    assert refusal(tmp_path).startswith(f"shard {second} is missing; fetch it")


@pytest.mark.parametrize("kept", [0.0, 0.0001, 0.001, 0.01, 0.3, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("layout", [indexed_bin, indexed_safetensors])
def test_a_truncated_shard_is_named(
    tmp_path: Path, tensors: Tensors, layout: Layout, kept: float
) -> None:
    layout(tmp_path, tensors)
    (first,) = tmp_path.glob("*-00001-of-00002.*")
    data = first.read_bytes()
    first.write_bytes(data[: int(len(data) * kept)])
    said = "cannot be read" if first.stat().st_size else "is empty"
    assert f"shard {first} {said}" in refusal(tmp_path)


@pytest.mark.parametrize("shard", ["../outside{}", "/{}", "{}/outside", "sub/../outside{}"])
@pytest.mark.parametrize("layout", [indexed_bin, indexed_safetensors])
def test_an_index_that_leaves_its_directory_is_refused(
    tmp_path: Path, tensors: Tensors, layout: Layout, shard: str
) -> None:
    (inside := tmp_path / "model").mkdir()
    layout(inside, tensors)
    (index,) = inside.glob("*.index.json")
    leaving = shard.format("outside")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(tensors, leaving)}))
    assert refusal(inside) == f"{index} leaves its directory; got {leaving}"


@pytest.mark.parametrize("weights", ["[]", "null", '"x"', '{"a": 1}', '{"a": null}'])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_file_that_is_no_index_is_named(tmp_path: Path, name: str, weights: str) -> None:
    index = tmp_path / f"{name}.index.json"
    for text in (weights, "", "{}", f'{{"weight_map": {weights}}}'):
        index.write_text(text)
        assert re.search(
            f"^{index} is not (a shard index|JSON|a JSON object)[:;]", refusal(tmp_path)
        )


@pytest.mark.parametrize(
    "content", [[1], {"a": 1}, {1: torch.ones(1)}, {"a": {"b": torch.ones(1)}}, "x", torch.ones(1)]
)
def test_a_shard_that_is_no_table_of_tensors_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    shard = tmp_path / "pytorch_model.bin"
    assert refusal(tmp_path).startswith(f"shard {shard} is not a table of tensors; got ")


def test_a_directory_without_weights_is_named_with_the_files_looked_for(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert f"no weights in {tmp_path}" in message
    assert "model.safetensors.index.json" in message
    assert "pytorch_model.bin" in message


class RunsCode:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("form", [*range(pickle.HIGHEST_PROTOCOL + 1), "zip", "legacy"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, tensors: Tensors, form: int | str
) -> None:
    marker, shard = tmp_path / "marker", tmp_path / "pytorch_model.bin"
    content = tensors | {"a": RunsCode(marker)}
    if isinstance(form, int):
        shard.write_bytes(pickle.dumps(content, protocol=form))
    else:
        torch.save(content, shard, _use_new_zipfile_serialization=form == "zip")
    assert f"shard {shard}" in refusal(tmp_path)
    assert not marker.exists()
    if isinstance(form, int):
        pickle.loads(shard.read_bytes())
    else:
        torch.load(shard, weights_only=False)
    assert marker.exists(), "the shard was harmless"


def test_a_tied_checkpoint_needs_no_head(tmp_path: Path, tensors: Tensors) -> None:
    del tensors[HEAD]
    single_bin(tmp_path, tensors)
    assert torch.equal(read_all(tmp_path, TIED)[HEAD], tensors[EMBEDDING])
    assert f"lacks {HEAD}" in refusal(tmp_path, CONFIG)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tied_checkpoint_may_store_its_head_again(
    tmp_path: Path, tensors: Tensors, dtype: torch.dtype
) -> None:
    single_safetensors(tmp_path, tensors | {HEAD: tensors[EMBEDDING].to(dtype, copy=True)})
    assert torch.equal(read_all(tmp_path, TIED)[HEAD], tensors[EMBEDDING])


def test_a_tied_checkpoint_with_another_head_is_refused(tmp_path: Path, tensors: Tensors) -> None:
    single_bin(tmp_path, tensors)  # transformers computes with such a head, the export would not
    message = refusal(tmp_path, TIED)
    assert HEAD in message
    assert "tie_word_embeddings" in message
