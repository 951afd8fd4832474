"""Claims about export.lora: a base with an adapter is what PEFT's formula says."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from export.config import load_config
from export.exporter import export_bundle
from export.lora import MergedCheckpoint, open_adapter
from export.parameters import expected_shapes
from profiles import load_profile
from runtime.bundle.reader import Bundle
from runtime.progress import SILENT
from tests.export.adapters import (
    BASE,
    LINEARS,
    PREFIX,
    Tensors,
    factors,
    write_adapter,
    write_base,
)
from tests.models import bare_manifest
from tests.paths import DATA
from toolchain.errors import TargetError
from toolchain.verify.origin import check_origin
from toolchain.verify.stages import Stage, verify

RANKS = dict.fromkeys(LINEARS, 4)
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
Q, UP = "model.layers.1.self_attn.q_proj", "model.layers.0.mlp.up_proj"


def reference(weights: Tensors, adapter: Tensors, scaling: Callable[[str], float]) -> Tensors:
    """Weights plus scaling times B A, in float64, from the formula as PEFT publishes it."""
    merged = {name: weight.double() for name, weight in weights.items()}
    for name, a in adapter.items():
        module, found, _ = name.removeprefix(PREFIX).partition(".lora_A")
        if found:
            b = adapter[name.replace("lora_A", "lora_B")]
            merged[f"{module}.weight"] += scaling(module) * (b.double() @ a.double())
    return merged


def read_merged(model: Path, adapter: Path) -> Tensors:
    """All tensors, by the way of their chunks, which is that of `export`."""
    opened = open_adapter(adapter, load_config(model))
    checkpoint = MergedCheckpoint(model, opened)
    tensors = {}
    for name, shape in expected_shapes(opened.merged).items():
        parameter = name.removeprefix("model.")
        tensors[name] = torch.cat(list(checkpoint.chunks(parameter))).reshape(shape)
        assert torch.equal(checkpoint.tensor(parameter), tensors[name]), name
    return tensors


def assert_close(got: Tensors, expected: Tensors, tolerance: float = 1e-6) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name].double(), tensor, atol=tolerance, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("changes", "scaling"),
    [
        ({}, lambda _: 16 / 4),
        ({"use_rslora": True}, lambda _: 16 / 2),
        ({"lora_alpha": 6.5}, lambda _: 6.5 / 4),
        (
            {"rank_pattern": {"q_proj": 9}, "alpha_pattern": {f"^{UP}": 3, "v_proj": 1}},
            lambda module: (
                16 / 9
                if "q_proj" in module
                else {UP: 3 / 4}.get(module, 1 / 4 if "v_proj" in module else 4)
            ),
        ),
        (
            {"rank_pattern": {"layers.1.self_attn.q_proj": 9}, "use_rslora": True},
            lambda module: 16 / 3 if module == Q else 16 / 2,
        ),
        ({"target_modules": "all-linear", "use_dora": None, "some_day": []}, lambda _: 4),
    ],
    ids=["plain", "rslora", "alpha", "patterns", "rslora of a pattern", "pattern of targets"],
)
def test_a_merged_weight_is_the_weight_plus_the_scaled_product(
    tmp_path: Path, changes: dict[str, object], scaling: Callable[[str], float]
) -> None:
    weights = write_base(tmp_path / "base")
    nine = [] if "rank_pattern" not in changes else list(changes["rank_pattern"])  # type: ignore[call-overload]
    ranks = {m: 9 if any(m.endswith(each) for each in nine) else 4 for m in RANKS}
    tensors = factors(ranks)
    adapter = write_adapter(tmp_path / "adapter", tensors, **changes)
    merged = read_merged(tmp_path / "base", adapter)
    assert_close(merged, reference(weights, tensors, scaling))
    changed = {name for name in weights if not torch.equal(merged[name], weights[name])}
    assert changed == {f"{module}.weight" for module in LINEARS}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_base_of_fewer_bits_is_added_to_before_it_is_rounded(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    weights, tensors = write_base(tmp_path / "base", dtype=dtype), factors(RANKS)
    adapter = write_adapter(tmp_path / "adapter", tensors)
    assert_close(read_merged(tmp_path / "base", adapter), reference(weights, tensors, lambda _: 4))


def test_a_tensor_of_many_chunks_is_merged_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.lora.CHUNK_ELEMENTS", 640)  # ten rows of 64, six of 96
    weights, tensors = write_base(tmp_path / "base"), factors(RANKS)
    adapter = write_adapter(tmp_path / "adapter", tensors)
    assert_close(read_merged(tmp_path / "base", adapter), reference(weights, tensors, lambda _: 4))


@pytest.mark.parametrize("named", [".modules_to_save.default", ".modules_to_save", ""])
def test_names_and_files_of_older_versions_are_read(tmp_path: Path, named: str) -> None:
    weights, tensors = write_base(tmp_path / "base"), factors({Q: 4})
    old = {name.replace(".weight", ".default.weight"): value for name, value in tensors.items()}
    norm = torch.full((64,), 3.0)
    adapter = write_adapter(
        tmp_path / "adapter", {}, target_modules=[Q], modules_to_save=["model.norm"]
    )
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({**old, f"{PREFIX}model.norm{named}.weight": norm}, adapter / "adapter_model.bin")
    expected = reference(weights, tensors, lambda _: 4) | {"model.norm.weight": norm.double()}
    assert_close(read_merged(tmp_path / "base", adapter), expected)


def test_a_head_may_have_factors_and_its_base_beside_them(tmp_path: Path) -> None:
    weights, tensors = write_base(tmp_path / "base"), factors({HEAD: 4})
    own = torch.randn(640, 64, generator=torch.Generator().manual_seed(5))
    saved = tensors | {f"{PREFIX}{HEAD}.base_layer.weight": own}
    adapter = write_adapter(tmp_path / "adapter", saved, target_modules=[HEAD])
    expected = reference(weights | {f"{HEAD}.weight": own}, tensors, lambda _: 4)
    assert_close(read_merged(tmp_path / "base", adapter), expected)


Exported = tuple[Path, Path, Bundle]  # base, adapter, bundle


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, miniature_dir: Path) -> Exported:
    """An adapter with a vocabulary of its own, as Chinese-Alpaca-2-LoRA over Llama-2."""
    directory = tmp_path_factory.mktemp("grown")
    base, adapter = directory / "base", directory / "adapter"
    write_base(base, BASE.model_copy(update={"vocab_size": 500}))
    whole = {
        f"{PREFIX}{name}.weight": torch.randn(640, 64, generator=torch.Generator().manual_seed(i))
        for i, name in enumerate((EMBEDDING, HEAD))
    }
    write_adapter(adapter, factors(RANKS) | whole, modules_to_save=["embed_tokens", "lm_head"])
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(miniature_dir / name, adapter)
    profile = load_profile(str(DATA / "small.toml"))
    return base, adapter, export_bundle(base, profile, directory / "bundle", SILENT, lora=adapter)


def test_an_adapter_brings_its_vocabulary_and_its_tokenizer(grown: Exported) -> None:
    base, adapter, bundle = grown
    assert bundle.manifest.model.vocab_size == 640
    assert bundle.file("tokenizer.model").read_bytes() == (adapter / "tokenizer.model").read_bytes()
    for name, tensor in read_merged(base, adapter).items():
        file = bundle.file(f"graphs/weights/{name.removeprefix('model.')}")
        stored = np.frombuffer(file.read_bytes(), np.float16).reshape(tuple(tensor.shape))
        assert np.array_equal(stored, tensor.numpy().astype(np.float16)), name


def test_the_manifest_names_the_adapter_s_files(grown: Exported) -> None:
    provenance = grown[2].manifest.provenance
    assert provenance.options["lora"] == "adapter"
    names = ("adapter_config.json", "adapter_model.safetensors", "tokenizer.model")
    assert {f"adapter/{name}" for name in names} <= provenance.source_files.keys()


def test_verify_compares_with_the_merged_model(grown: Exported) -> None:
    base, adapter, bundle = grown
    profile = load_profile(str(DATA / "small.toml"))
    sequences = [[1, 5, 9, 600, 3, 17, 200, 639, 4, 8, 30, 2]]
    [report] = verify([Stage(bundle)], base, profile, sequences, lora=adapter)
    assert all(graph.agreement.argmax == 1 and graph.agreement.kl < 1e-3 for graph in report.graphs)
    with pytest.raises(TargetError, match="with an adapter; got no --lora; allowed: --lora with"):
        verify([Stage(bundle)], base, profile, sequences)


def test_verify_refuses_an_adapter_that_was_not_merged(tmp_path: Path) -> None:
    adapter = open_adapter(write_adapter(tmp_path / "adapter", factors(RANKS)), BASE)
    bundle = Bundle(path=tmp_path, manifest=bare_manifest(BASE))
    with pytest.raises(TargetError, match=r"without an adapter; got --lora .*; allowed: no --lora"):
        check_origin([bundle], tmp_path, BASE, adapter)
