"""Claims about which files are read: one whole set of weights, or a refusal with the reason."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from export.checkpoint import open_checkpoint
from export.errors import CheckpointError
from export.parameters import expected_shapes
from export.weight_files import unmapped_bytes
from tests.models import TINY

Tensors = dict[str, Tensor]
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 13862000000\n"
NORM = "model.norm.weight"


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    generator = torch.Generator().manual_seed(7)
    shapes = expected_shapes(TINY).items()
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes}


def one_safetensors(model: Path, tensors: Tensors) -> None:
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def one_bin(model: Path, tensors: Tensors) -> None:
    torch.save(tensors, model / "pytorch_model.bin")


def two_safetensors(model: Path, tensors: Tensors) -> None:
    _two(model, tensors, "model-0000{}-of-00002.safetensors", "model.safetensors.index.json")


def two_bins(model: Path, tensors: Tensors) -> None:
    _two(model, tensors, "pytorch_model-0000{}-of-00002.bin", "pytorch_model.bin.index.json")


def _two(model: Path, tensors: Tensors, pattern: str, index: str) -> None:
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        shard, piece = pattern.format(i), {name: tensors[name] for name in part}
        save_file(piece, model / shard) if "safe" in shard else torch.save(piece, model / shard)
        weight_map |= dict.fromkeys(part, shard)
    (model / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


Save = Callable[[Path, Tensors], None]
SETS: list[Save] = [one_safetensors, two_safetensors, one_bin, two_bins]
NAMES: dict[Save, str] = {
    one_safetensors: "model.safetensors",
    two_safetensors: "model.safetensors.index.json",
    one_bin: "pytorch_model.bin",
    two_bins: "pytorch_model.bin.index.json",
}
every_set = pytest.mark.parametrize("save", SETS)


def assert_reads(model: Path, tensors: Tensors) -> None:
    checkpoint = open_checkpoint(model, TINY)
    for name, tensor in tensors.items():
        assert torch.equal(checkpoint.tensor(name.removeprefix("model.")), tensor), name


def refusal(model: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(model, TINY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def shards(model: Path) -> list[Path]:
    return sorted(f for f in model.iterdir() if f.suffix in (".bin", ".safetensors"))


@every_set
def test_a_hub_cache_of_links_is_read(tmp_path: Path, tensors: Tensors, save: Save) -> None:
    """snapshots/main/FILE -> ../../blobs/HASH, as huggingface_hub keeps them."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots/main"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    save(snapshot, tensors)
    for number, file in enumerate(sorted(snapshot.iterdir())):
        file.rename(blobs / f"{number:064}")
        file.symlink_to(Path("../../blobs") / f"{number:064}")
    assert_reads(snapshot, tensors)


@every_set
def test_every_file_that_git_left_as_a_pointer_is_named(
    tmp_path: Path, tensors: Tensors, save: Save
) -> None:
    save(tmp_path, tensors)
    for file in sorted(tmp_path.iterdir()):
        data = file.read_bytes()
        file.write_text(POINTER)
        message = refusal(tmp_path)
        assert str(file) in message
        assert "git-lfs pointer" in message
        assert "git lfs pull" in message
        file.write_bytes(data)
    assert_reads(tmp_path, tensors)


@pytest.mark.parametrize(
    ("save", "index"), [(one_safetensors, two_safetensors), (one_bin, two_bins)]
)
@pytest.mark.parametrize("lost", [(0,), (1,), (0, 1)])
def test_an_index_without_its_shards_beside_the_whole_file_is_passed_over_and_named(
    tmp_path: Path,
    tensors: Tensors,
    save: Save,
    index: Save,
    lost: tuple[int, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    index(tmp_path, {name: tensor * 2 for name, tensor in tensors.items()})
    found = shards(tmp_path)
    for number in lost:
        found[number].unlink()
    save(tmp_path, tensors)
    assert_reads(tmp_path, tensors)
    said = capsys.readouterr().err
    assert f"{NAMES[index]} is not read: shard {found[lost[0]]} is missing" in said


@pytest.mark.parametrize("save", [one_bin, two_bins])
def test_a_set_that_is_not_whole_is_named_with_the_set_that_could_be_taken(
    tmp_path: Path, tensors: Tensors, save: Save
) -> None:
    """transformers fails too: what was asked for first may be newer."""
    two_safetensors(tmp_path, tensors)
    first, *_ = [file for file in shards(tmp_path) if file.suffix == ".safetensors"]
    first.unlink()
    assert refusal(tmp_path).startswith(f"shard {first} is missing; fetch it; ")
    save(tmp_path, tensors)
    message = refusal(tmp_path)
    assert message.startswith(f"shard {first} is missing; ")
    assert f"remove model.safetensors.index.json to take {NAMES[save]} instead" in message
    (tmp_path / "model.safetensors.index.json").unlink()
    assert_reads(tmp_path, tensors)


@pytest.mark.parametrize(("save", "other"), [*combinations(SETS, 2)])
@pytest.mark.parametrize("name", [NORM, "model.layers.0.mlp.down_proj.weight"])
def test_two_whole_sets_must_hold_the_same_numbers(
    tmp_path: Path, tensors: Tensors, save: Save, other: Save, name: str
) -> None:
    save(tmp_path, tensors)
    other(tmp_path, tensors)
    assert_reads(tmp_path, tensors)
    changed = tensors[name].clone()
    changed.view(-1)[-1] += 1  # the last number of one tensor
    other(tmp_path, tensors | {name: changed})
    message = refusal(tmp_path)
    assert (
        f"two sets of weights that differ: {NAMES[save]} and {NAMES[other]}; got {name}" in message
    )


def test_two_sets_in_other_types_are_the_same_where_float16_is(
    tmp_path: Path, tensors: Tensors
) -> None:
    half = {name: tensor.half() for name, tensor in tensors.items()}
    one_safetensors(tmp_path, half)
    one_bin(tmp_path, tensors)
    assert_reads(tmp_path, half)


def test_a_second_set_of_another_shape_or_with_other_names_differs(
    tmp_path: Path, tensors: Tensors
) -> None:
    one_safetensors(tmp_path, tensors)
    one_bin(tmp_path, {name: tensor for name, tensor in tensors.items() if name != NORM})
    assert f"differ: model.safetensors and pytorch_model.bin; got the checkpoint lacks {NORM}" in (
        refusal(tmp_path)
    )
    one_bin(tmp_path, tensors | {NORM: torch.ones(3)})
    assert f"pytorch_model.bin; got tensor {NORM}; got (3,)" in refusal(tmp_path)


@pytest.mark.parametrize("data", [b"", POINTER.encode(), b"PK\x03\x04 damaged"])
def test_a_second_set_that_cannot_be_read_is_named_and_passed_over(
    tmp_path: Path, tensors: Tensors, data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    one_safetensors(tmp_path, tensors)
    (tmp_path / "pytorch_model.bin").write_bytes(data)
    assert_reads(tmp_path, tensors)
    assert f"{tmp_path / 'pytorch_model.bin'} is not read: shard" in capsys.readouterr().err


def test_shards_that_no_index_names_are_said_to_be_left(
    tmp_path: Path, tensors: Tensors, capsys: pytest.CaptureFixture[str]
) -> None:
    two_safetensors(tmp_path, tensors)
    save_file(tensors, tmp_path / "model-00003-of-00003.safetensors")
    assert_reads(tmp_path, tensors)
    assert f"{tmp_path}: not read: model-00003-of-00003.safetensors" in capsys.readouterr().err


def test_without_the_index_its_shards_are_named(tmp_path: Path, tensors: Tensors) -> None:
    two_bins(tmp_path, tensors)
    (tmp_path / "pytorch_model.bin.index.json").unlink()
    message = refusal(tmp_path)
    assert "got pytorch_model-00001-of-00002.bin, pytorch_model-00002-of-00002.bin" in message
    assert "fetch the index" in message


@pytest.mark.parametrize("name", ["consolidated.00.pth", "model-q4_0.gguf", "tf_model.h5"])
def test_weights_in_other_formats_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert f"no weights in {tmp_path}; got {name}; allowed: one of" in refusal(tmp_path)


@pytest.mark.parametrize("save", [two_safetensors, two_bins])
def test_a_tensor_comes_from_the_shard_that_the_index_names(
    tmp_path: Path, tensors: Tensors, save: Save
) -> None:
    """A shard of an older save may hold it too."""
    save(tmp_path, tensors)
    first, second = shards(tmp_path)
    stale = tensors | {name: tensor * 0.5 for name, tensor in list(tensors.items())[1::2]}
    write = save_file if first.suffix == ".safetensors" else torch.save
    write({name: stale[name] for name in tensors}, first)
    assert_reads(tmp_path, tensors)
    assert second.exists()


@pytest.mark.parametrize("save", [two_safetensors, two_bins])
def test_an_index_with_the_wrong_shard_is_no_obstacle_where_only_one_has_the_tensor(
    tmp_path: Path, tensors: Tensors, save: Save
) -> None:
    """transformers reads every shard that an index names, whatever it says of each tensor."""
    save(tmp_path, tensors)
    (index,) = tmp_path.glob("*.index.json")
    weight_map = json.loads(index.read_text())["weight_map"]
    one, two = sorted(set(weight_map.values()))
    swapped = {name: two if shard == one else one for name, shard in weight_map.items()}
    index.write_text(json.dumps({"weight_map": swapped}))
    assert_reads(tmp_path, tensors)


def test_only_what_cannot_be_mapped_needs_memory(tmp_path: Path, tensors: Tensors) -> None:
    one_safetensors(tmp_path, tensors)
    one_bin(tmp_path, tensors)
    assert unmapped_bytes(tmp_path) == 0
    old = tmp_path / "pytorch_model.bin"
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    assert unmapped_bytes(tmp_path) == old.stat().st_size


@every_set
def test_a_directory_in_the_place_of_a_file_is_missing(
    tmp_path: Path, tensors: Tensors, save: Save
) -> None:
    save(tmp_path, tensors)
    for file in shards(tmp_path):
        file.unlink()
        file.mkdir()
    assert "missing" in refusal(tmp_path) or "no weights" in refusal(tmp_path)


@every_set
def test_what_is_read_is_what_transformers_reads(
    tmp_path: Path, tensors: Tensors, save: Save
) -> None:
    save(tmp_path, tensors)
    values = TINY.model_dump(exclude={"rope_scaling"})
    LlamaConfig(**values, architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    assert_reads(tmp_path, {name: theirs[name] for name in tensors})
