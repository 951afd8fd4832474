"""Claims about export.exporter: the checkpoint's numbers in a bundle, once, or nothing at all."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.external_data_helper import ExternalDataInfo
from torch import Tensor
from transformers import LlamaForCausalLM

from export.errors import CheckpointError, ConfigError
from export.exporter import export_bundle
from export.parameters import expected_shapes
from profiles import Profile, load_profile
from runtime.bundle.reader import Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.progress import SILENT, Silent
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from tests.models import TINY
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

pytestmark = pytest.mark.slow

EXTRA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "eos_token_id": 7}
GATE = "model.layers.0.mlp.gate_proj.weight"
Tensors = dict[str, Tensor]
Exported = tuple[Path, Bundle]  # a checkpoint and its bundle


def profile(cache_len: int, seq_len: int = 4) -> Profile:
    phases = {"prefill": seq_len, "decode": 1}
    shared = {"batch_size": 1, "cache_len": cache_len}
    graphs = [{"phase": phase, "seq_len": length, **shared} for phase, length in phases.items()]
    choices = {"name": "test", "description": "", "target": "cpu", "weights": "fp32", "limits": {}}
    return Profile.model_validate({**choices, "graphs": graphs}, strict=False)


def random_tensors(dtype: torch.dtype = torch.float32) -> Tensors:
    """Norms of ones, as many models begin: equal tensors by several names."""
    generator = torch.Generator().manual_seed(4)
    tensors = {}
    for name, shape in expected_shapes(TINY).items():
        value = torch.randn(shape, generator=generator) if len(shape) > 1 else torch.ones(shape)
        tensors[name] = (value / 2).to(dtype)
    return tensors


def write_checkpoint(directory: Path, tensors: Tensors, other: Path, **changes: object) -> Path:
    """A checkpoint with the tokenizer of another."""
    directory.mkdir()
    values = {**TINY.model_dump(exclude={"rope_scaling"}), **EXTRA, **changes}
    (directory / "config.json").write_text(json.dumps(values))
    shutil.copy(other / "tokenizer.model", directory)
    torch.save(tensors, directory / "pytorch_model.bin")
    return directory


def assert_same_numbers(bundle: Bundle, model: Path) -> None:
    """Every graph refers to every tensor, and each distinct tensor lies in one file."""
    expected: dict[str, bytes] = {}
    for shard in model.glob("*.bin"):
        for name, tensor in torch.load(shard, weights_only=True).items():
            half = tensor.float().numpy().astype(np.float16)
            expected[name.removeprefix("model.")] = half.tobytes()
    used: set[Path] = set()
    for graph in bundle.manifest.graphs:
        proto = onnx.load(bundle.file(graph.path), load_external_data=False).graph
        outside = [t for t in proto.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        assert {tensor.name for tensor in outside} == expected.keys()
        for tensor in outside:
            info = ExternalDataInfo(tensor)
            stored = (bundle.file("graphs") / info.location).read_bytes()
            assert stored == expected[tensor.name], tensor.name
            assert not info.offset
            assert info.length == len(stored)
            used.add(bundle.file("graphs") / info.location)
    assert used == set(bundle.file("graphs/weights").iterdir())
    assert len(used) == len(expected)


def test_a_bundle_has_the_checkpoint_s_numbers_once(bundles: Path, miniature_dir: Path) -> None:
    bundle = load_bundle(bundles / "small-exported")
    assert_same_numbers(bundle, miniature_dir)
    for name in ("tokenizer.model", "generation_config.json"):
        assert bundle.file(name).read_bytes() == (miniature_dir / name).read_bytes()


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory, miniature_dir: Path) -> Exported:
    directory, tensors = tmp_path_factory.mktemp("tied"), random_tensors(torch.bfloat16)
    del tensors["lm_head.weight"]
    model = write_checkpoint(directory / "model", tensors, miniature_dir, tie_word_embeddings=True)
    return model, export_bundle(model, profile(12), directory / "bundle", SILENT)


@torch.no_grad()
def test_a_tied_head_is_no_second_copy_and_gives_the_logits_of_transformers(tied: Exported) -> None:
    assert_same_numbers(tied[1], tied[0])
    token_ids = [3, 39, 0, 11, 5, 5, 2]
    model = LlamaForCausalLM.from_pretrained(tied[0], dtype=torch.float32)
    theirs = model(torch.tensor([token_ids])).logits[0]
    engine = Engine(open_session(load_bundle(tied[1].path)))
    with engine.slot(token_ids) as slot:
        prefilled = engine.prefill(slot, token_ids[:-1]).copy()
        decoded = engine.decode([slot], token_ids[-1:])[0]
    assert theirs.abs().max() > 1
    np.testing.assert_allclose(prefilled, theirs[-2], atol=0.02)
    np.testing.assert_allclose(decoded, theirs[-1], atol=0.02)


def test_the_manifest_tells_where_the_bundle_comes_from(tied: Exported) -> None:
    model, bundle = tied
    manifest = load_bundle(bundle.path).manifest
    assert (manifest.stage, manifest.target, manifest.weights) == ("exported", "portable", "fp16")
    assert manifest.provenance.source_files == {
        name: hashlib.sha256((model / name).read_bytes()).hexdigest()
        for name in ("config.json", "tokenizer.model")
    }
    assert manifest.provenance.tool_versions["torch"] == torch.__version__
    options = {"command": "export", "profile": "test", "load_format": "auto", "rope": None}
    assert manifest.provenance.options == options
    assert Profile.model_validate(manifest.profile, strict=False) == profile(12)
    made = json.loads(bundle.file("generation_config.json").read_bytes())
    assert made == {"eos_token_id": 7}, "the checkpoint has no such file"


@pytest.mark.parametrize(
    ("value", "dtype", "shown"),
    [
        (1e5, torch.bfloat16, "torch.bfloat16, largest 99840"),
        (-65520.0, torch.float32, "torch.float32, largest 65520"),
        (float("nan"), torch.bfloat16, "torch.bfloat16, largest nan"),
    ],
)
def test_a_value_beyond_float16_is_refused_by_the_tensor_s_name(
    tmp_path: Path, miniature_dir: Path, value: float, dtype: torch.dtype, shown: str
) -> None:
    tensors = random_tensors(dtype)
    tensors[GATE][3, 5] = value
    model = write_checkpoint(tmp_path / "model", tensors, miniature_dir)
    with pytest.raises(CheckpointError) as caught:
        export_bundle(model, profile(12), tmp_path / "bundle", SILENT)
    what = f"tensor {GATE.removeprefix('model.')} has values that are not finite in float16"
    assert str(caught.value) == f"{what}; got {shown}; allowed: up to 65504"
    assert list(tmp_path.iterdir()) == [model]


def misshape(model: Path) -> None:
    tensors = random_tensors()
    torch.save(tensors | {GATE: tensors[GATE].T}, model / "pytorch_model.bin")


def edit(model: Path, key: str, value: int) -> None:
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**values, key: value}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda model: (model / "config.json").unlink(), "no config.json"),
        (lambda model: (model / "tokenizer.model").unlink(), "no tokenizer.model"),
        (lambda model: (model / "pytorch_model.bin").unlink(), "no weights"),
        (lambda model: (model / "tokenizer.model").write_text("oid"), "not a SentencePiece model"),
        (lambda model: edit(model, "vocab_size", 639), "more pieces than the model; got 640"),
        (lambda model: edit(model, "max_position_embeddings", 11), "got 12; allowed: up to 11"),
        (misshape, f"tensor {GATE}; got (64, 96); allowed: (96, 64)"),
    ],
)
def test_a_refusal_leaves_nothing_and_keeps_the_bundle_that_was_there(
    tmp_path: Path, tied: Exported, spoil: Callable[[Path], None], said: str
) -> None:
    model = write_checkpoint(tmp_path / "model", random_tensors(), tied[0])
    before = shutil.copytree(tied[1].path, tmp_path / "before")
    spoil(model)
    for output in (tmp_path / "bundle", before):
        with pytest.raises((ConfigError, CheckpointError)) as caught:
            export_bundle(model, profile(12), output, SILENT)
        assert said in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [before, model]
    assert load_bundle(before).manifest == tied[1].manifest


class Interrupter(Silent):
    """Ctrl-C when a step begins, or after some of the weights are written."""

    def __init__(self, at: str) -> None:
        self.at = at

    def step(self, text: str) -> None:
        if text.startswith(self.at):
            raise KeyboardInterrupt

    def advance(self, num_bytes: int) -> None:
        if self.at == "bytes":
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["weights", "bytes", "graph 1"])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, miniature_dir: Path, step: str) -> None:
    model = write_checkpoint(tmp_path / "model", random_tensors(), miniature_dir)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(model, profile(12), tmp_path / "bundle", Interrupter(step))
    assert list(tmp_path.iterdir()) == [model]


@pytest.fixture(scope="module")
def mini(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """The real checkpoint with two graphs of the shipped profile's cache."""
    output, num_threads = tmp_path_factory.mktemp("mini") / "bundle", torch.get_num_threads()
    torch.set_num_threads(1)  # waiting for a second one costs more than such small products
    yield export_bundle(shared_data / "alpaca2-mini", profile(2048, seq_len=16), output, SILENT)
    torch.set_num_threads(num_threads)


def test_a_real_bundle_is_hardly_larger_than_its_checkpoint(
    mini: Bundle, shared_data: Path
) -> None:
    assert_same_numbers(mini, shared_data / "alpaca2-mini")
    largest_graph = max(mini.manifest.files[graph.path].size for graph in mini.manifest.graphs)
    missing = len(load_profile("cpu").graphs) - len(mini.manifest.graphs)
    ours, theirs = (
        sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
        for directory in (mini.path, shared_data / "alpaca2-mini")
    )
    assert ours + missing * largest_graph <= 1.02 * theirs


@torch.no_grad()
def test_greedy_text_is_transformers_text(mini: Bundle, shared_data: Path, tmp_path: Path) -> None:
    directory = shared_data / "alpaca2-mini"
    documents = json.loads((directory / "held_out_ids.json").read_text())
    # From the middle, since the documents begin with the same words.
    prompts = [ids[len(ids) // 2 :][:24] for ids in documents if len(ids) > 60][:20]
    assert len({tuple(prompt) for prompt in prompts}) == 20
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    theirs = model.generate(torch.tensor(prompts), max_new_tokens=64, do_sample=False)[:, 24:]
    compiled = compile_bundle(mini, tmp_path / "fp32", Choices(weights="fp32"), progress=SILENT)
    scheduler = Scheduler(Engine(open_session(compiled)))
    params = SamplingParams(max_tokens=64, stop_token_ids=(2,))
    for prompt, answer in zip(prompts, theirs.tolist(), strict=True):
        request = Request(prompt_ids=prompt, params=params)
        ours = [token.id for token in generate(scheduler, request)]
        assert ours == answer[: answer.index(2) + 1 if 2 in answer else None]
