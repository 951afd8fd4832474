"""Claims about export.tensor_file: every spelling gives the same numbers, others are named."""

import contextlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from export.errors import CheckpointError
from export.tensor_file import open_tensors
from export.weight_jobs import float16_bytes

Tensors = dict[str, Tensor]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture
def tensors() -> Tensors:
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(4, 6, generator=generator) for name in ("a", "b", "c.weight")}


def zipped(file: Path, tensors: Tensors) -> None:
    torch.save(tensors, file)


def legacy(file: Path, tensors: Tensors) -> None:
    torch.save(tensors, file, _use_new_zipfile_serialization=False)


def protocol_3(file: Path, tensors: Tensors) -> None:
    torch.save(tensors, file, pickle_protocol=3)


def parameters(file: Path, tensors: Tensors) -> None:
    torch.save({name: nn.Parameter(tensor) for name, tensor in tensors.items()}, file)


def legacy_parameters(file: Path, tensors: Tensors) -> None:
    values = {name: nn.Parameter(tensor) for name, tensor in tensors.items()}
    torch.save(values, file, _use_new_zipfile_serialization=False)


def state_dict(file: Path, tensors: Tensors) -> None:
    """An OrderedDict with attributes of its own, as a module gives it."""
    module = nn.Module()
    module.c = nn.Module()
    module.c.weight = nn.Parameter(tensors["c.weight"])
    module.register_buffer("a", tensors["a"])
    module.b = nn.Parameter(tensors["b"], requires_grad=False)
    torch.save(module.state_dict(), file)


def shared_storage(file: Path, tensors: Tensors) -> None:
    """Each tensor is a piece of one array, as flattened parameters are."""
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
    pieces = torch.split(flat, [tensor.numel() for tensor in tensors.values()])
    torch.save({n: p.view(4, 6) for n, p in zip(tensors, pieces, strict=True)}, file)


def columns_first(file: Path, tensors: Tensors) -> None:
    torch.save({name: tensor.T.contiguous().T for name, tensor in tensors.items()}, file)


def strided(file: Path, tensors: Tensors) -> None:
    """Every second row of a larger array, in torch's old format."""
    twice = {name: tensor.repeat_interleave(2, 0)[::2] for name, tensor in tensors.items()}
    torch.save(twice, file, _use_new_zipfile_serialization=False)


def negated(file: Path, tensors: Tensors) -> None:
    """With torch's bit for "take the negative", which numpy cannot show."""
    values = {name: torch._neg_view(-tensor) for name, tensor in tensors.items()}
    assert all(value.is_neg() for value in values.values())
    torch.save(values, file)


SPELLINGS = [
    zipped,
    legacy,
    protocol_3,
    parameters,
    legacy_parameters,
    state_dict,
    shared_storage,
    columns_first,
    strided,
    negated,
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spell", SPELLINGS)
def test_every_spelling_of_torch_gives_the_numbers_that_were_saved(
    tmp_path: Path, tensors: Tensors, spell: Callable[[Path, Tensors], None], dtype: torch.dtype
) -> None:
    saved = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    spell(tmp_path / "a.bin", saved)
    stored = open_tensors(tmp_path / "a.bin").tensors
    assert stored.keys() == saved.keys()
    for name, tensor in saved.items():
        assert (stored[name].shape, stored[name].oddity) == ((4, 6), "")
        assert stored[name].dtype == str(dtype).removeprefix("torch.")
        read = stored[name].read()
        assert torch.equal(read, tensor), name
        half = tensor.half().numpy().tobytes()
        assert bytes(float16_bytes(name, read.flatten())) == half


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_give_the_numbers_that_were_saved(
    tmp_path: Path, tensors: Tensors, dtype: torch.dtype, metadata: dict[str, str] | None
) -> None:
    saved = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    save_file(saved, tmp_path / "a.safetensors", metadata)
    stored = open_tensors(tmp_path / "a.safetensors").tensors
    assert stored.keys() == saved.keys()
    for name, tensor in saved.items():
        assert stored[name].shape == (4, 6)
        assert stored[name].dtype == str(dtype).removeprefix("torch.")
        assert torch.equal(stored[name].read(), tensor), name


def test_a_name_that_safetensors_left_out_is_known_by_its_twin(tmp_path: Path) -> None:
    """save_model writes a tensor that two modules share once, and says so in the metadata."""
    module = nn.Module()
    module.head, module.embedding = nn.Linear(3, 4, bias=False), nn.Embedding(4, 3)
    module.head.weight = module.embedding.weight
    save_model(module, str(tmp_path / "a.safetensors"))
    file = open_tensors(tmp_path / "a.safetensors")
    (kept,) = file.tensors
    (left_out,) = {"head.weight", "embedding.weight"} - {kept}
    assert file.aliases[left_out] == kept


@pytest.mark.parametrize(
    ("make", "oddity"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.eye(3).to_sparse_csr(), "sparse"),
        (lambda: torch.empty(3, 3, device="meta"), "meta"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
    ],
)
def test_a_tensor_that_is_no_plain_array_is_called_what_it_is(
    tmp_path: Path, make: Callable[[], Tensor], oddity: str
) -> None:
    with warnings.catch_warnings(action="ignore"):  # of things that torch calls new
        torch.save({"a": make(), "b": torch.ones(1)}, tmp_path / "a.bin")
    stored = open_tensors(tmp_path / "a.bin").tensors
    assert oddity in stored["a"].oddity
    assert stored["b"].oddity == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git-lfs pointer"),
        (b"<!DOCTYPE html>\n<html>Sign in</html>", "is a web page"),
        (b"<?xml version='1.0'?><Error/>", "is a web page or XML"),
        (b'{"error": "Repository not found"}', "is JSON"),
        (b"GGUF\x03\x00\x00\x00" + bytes(64), "is a GGUF file"),
        (bytes(64), "cannot be read"),
        (b"\x93NUMPY\x01\x00" + bytes(64), "cannot be read|holds more than tensors"),
    ],
)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_what_lies_where_weights_should_be_is_called_what_it_is(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"^shard {tmp_path / name}[^\n]*({said})[^\n]*$"):
        open_tensors(tmp_path / name)


def test_a_header_whose_length_looks_like_text_is_still_safetensors(tmp_path: Path) -> None:
    """The file begins with the length of its header, 8 bytes of which the first may be `<`."""
    for padding in range(200):
        save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", {"note": "x" * padding})
        data = (tmp_path / "a.safetensors").read_bytes()
        assert open_tensors(tmp_path / "a.safetensors").tensors.keys() == {"a"}, data[:9]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": {"a": torch.ones(1)}, "epoch": 3}, "a table of 'state_dict', 'epoch'"),
        ({"a": torch.ones(1), "b": 3}, "a table of 'a', 'b'"),
        ([torch.ones(1)], "list"),
    ],
)
def test_a_file_with_more_than_tensors_says_what_it_holds(
    tmp_path: Path, content: object, said: str
) -> None:
    torch.save(content, tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match=f"is not a table of tensors; got {said}"):
        open_tensors(tmp_path / "a.bin")


def test_a_damaged_file_is_a_named_error_whatever_byte_is_wrong(
    tmp_path: Path, tensors: Tensors
) -> None:
    """Every 3rd byte of small files; what still loads is as good as torch's own reading."""
    for name, spell in (("zip.bin", zipped), ("legacy.bin", legacy)):
        spell(tmp_path / name, tensors)
        whole = (tmp_path / name).read_bytes()
        for at in range(0, min(len(whole), 900), 3):
            (tmp_path / name).write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            with contextlib.suppress(CheckpointError):
                opened = open_tensors(tmp_path / name)
                assert all(isinstance(tensor.shape, tuple) for tensor in opened.tensors.values())


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_pickle_that_the_safe_reader_does_not_know_is_not_taken_for_an_attack(
    tmp_path: Path, tensors: Tensors, protocol: int
) -> None:
    torch.save(tensors, tmp_path / "a.bin", pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=r"does not know this form of pickle.*pickle_protoc"):
        open_tensors(tmp_path / "a.bin")


def test_a_plain_pickle_of_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match=r"cannot be read|holds more than tensors"):
        open_tensors(tmp_path / "a.bin")
