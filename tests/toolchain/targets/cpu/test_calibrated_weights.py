"""Weights rounded by what the layers are given: what is written, and what is refused."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from profiles import exported_profile
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import split_layer
from runtime.bundle.reader import GRAPHS_DIR, Bundle, load_bundle
from runtime.errors import UserError
from runtime.progress import SILENT
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.targets.cpu.blocks import dequantize_blocks
from toolchain.targets.cpu.calibration import builtin_text
from toolchain.targets.cpu.footprint import compile_costs
from toolchain.targets.cpu.layer_parts import LayerParts

INT4 = Choices(weights="int4", kernels="onnxruntime")  # whose weights lie row by row


@pytest.fixture(scope="module")
def exported(bundles: Path) -> Bundle:
    return load_bundle(bundles / "talk-exported")


@pytest.fixture(scope="module")
def dialogues(miniature_dir: Path) -> list[list[int]]:
    """What the miniature was trained on."""
    ids: list[list[int]] = json.loads((miniature_dir / "dialogue_ids.json").read_bytes())
    return ids


@pytest.fixture(scope="module")
def calibrated(
    exported: Bundle, dialogues: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """Calibrated with some of the dialogues."""
    directory = tmp_path_factory.mktemp("calibrated")
    (directory / "ids.json").write_text(json.dumps(dialogues[:6]))
    choices = replace(INT4, calibrate=str(directory / "ids.json"))
    return compile_bundle(exported, directory / "out", choices, progress=SILENT)


def products(bundle: Bundle) -> tuple[ir.Model, list[ir.Node]]:
    model = ir.load(bundle.file(bundle.manifest.graphs[0].path))
    nodes = [node for node in model.graph if node.op_type == "MatMulNBits"]
    return model, [node for node in nodes if split_layer(str(node.name))[0] is not None]


def weights_of(node: ir.Node) -> np.ndarray:
    tensors = (value.const_value for value in node.inputs[1:3] if value is not None)
    levels, scales = (tensor.numpy() for tensor in tensors if tensor is not None)
    return dequantize_blocks(levels, scales, node.attributes["bits"].as_int())


def original(bundle: Bundle, node: ir.Node) -> np.ndarray:
    """The weights of the exported bundle that a product computes with."""
    path, config = str(node.name).removesuffix("/MatMul"), bundle.manifest.model
    parts = [path.replace("qkv_proj", f"{each}_proj") for each in ("qkv" if "qkv" in path else "-")]
    return np.concatenate([stored(bundle, config, f"{part}.weight") for part in parts])


def stored(bundle: Bundle, config: ModelConfig, name: str) -> np.ndarray:
    from export.parameters import parameter_shape

    data = bundle.file(f"{GRAPHS_DIR}/weights/{name}").read_bytes()
    return np.frombuffer(data, np.float16).reshape(parameter_shape(config, name)).astype(np.float32)


def test_every_layer_is_closer_on_other_texts_than_with_rounding_to_nearest(
    exported: Bundle, calibrated: Bundle, dialogues: list[list[int]], tmp_path: Path
) -> None:
    """By a recount with numpy: each product is given what the layers before it make."""
    nearest = compile_bundle(exported, tmp_path / "nearest", INT4, progress=SILENT)
    errors = {}
    for bundle in (nearest, calibrated):
        model, nodes = products(bundle)
        parts = LayerParts(model, bundle.manifest.model, bundle.path / GRAPHS_DIR)
        texts = [np.array([ids], np.int64) for ids in dialogues[6:]]
        for node in nodes:
            layer, name = split_layer(str(node.name))
            if layer == 0 and node.inputs[0] is not None:
                run = parts.part(0, [str(node.inputs[0].name)])
                rows = np.concatenate([next(iter(run(ids).values()))[0] for ids in texts])
                expected = rows @ original(exported, node).T
                found = rows @ weights_of(node)[:, : rows.shape[1]].T
                errors[bundle.path.name, name] = np.linalg.norm(found - expected)
    names = {name for _, name in errors}
    assert len(names) == 5
    for name in names:
        assert errors["out", name] < 0.9 * errors["nearest", name]


def test_the_bytes_do_not_depend_on_the_number_of_threads(
    exported: Bundle, calibrated: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    ids = calibrated.path.parent / "ids.json"
    again = compile_bundle(
        exported, tmp_path / "out", replace(INT4, calibrate=str(ids)), progress=SILENT
    )
    assert again.manifest.files == calibrated.manifest.files


def test_the_manifest_names_the_texts(exported: Bundle, calibrated: Bundle, tmp_path: Path) -> None:
    data = (calibrated.path.parent / "ids.json").read_bytes()
    sources = calibrated.manifest.provenance.source_files
    assert sources["calibrate ids.json"] == hashlib.sha256(data).hexdigest()
    choices = Choices(weights="int4", calibrate="builtin")  # with whichever kernels there are
    builtin = compile_bundle(exported, tmp_path / "builtin", choices, progress=SILENT)
    sources = builtin.manifest.provenance.source_files
    assert sources["calibrate builtin"] == hashlib.sha256(builtin_text().encode()).hexdigest()
    assert builtin.manifest.profile["calibrate"] == "builtin"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("none.txt", None, "none.txt is missing"),
        ("cut.json", b"[[1, 2, 3, 4], [5, 6", "cut.json is not JSON"),
        ("words.json", b'["one", "two"]', "words.json is no list of token id lists"),
        ("large.json", b"[[1, 2, 3, 70000]]", "not in the vocabulary; got 70000"),
        ("binary.txt", b"\xff\xfe\x00\x81\xff", "binary.txt is not UTF-8"),
        ("short.txt", b"A short text.", "short.txt is too short to calibrate with; got "),
    ],
)
def test_a_broken_file_is_named_and_leaves_nothing(
    name: str, data: bytes | None, says: str, exported: Bundle, tmp_path: Path
) -> None:
    file = tmp_path / name
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(UserError, match=says):
        compile_bundle(
            exported, tmp_path / "out", replace(INT4, calibrate=str(file)), progress=SILENT
        )
    assert list(tmp_path.iterdir()) == ([file] if data is not None else [])


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        (Choices(weights="fp32", calibrate="builtin"), "got fp32; allowed: int4, int8"),
        (Choices(target="310p3", calibrate="builtin"), "allowed: none"),
        (
            Choices(weights="int4", calibrate="builtin", without=("free_dimensions",)),
            "calibrating needs the pass grouped_query_attention",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    choices: Choices, says: str, exported: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says):
        compile_bundle(exported, tmp_path / "out", choices, progress=SILENT)
    assert list(tmp_path.iterdir()) == []


def test_plan_knows_what_calibrating_takes(exported: Bundle) -> None:
    config, plain = exported.manifest.model, exported_profile(exported)
    calibrated = plain.model_copy(update={"calibrate": "builtin"})
    before, after = (compile_costs(config, profile) for profile in (plain, calibrated))
    moments = 4 * config.intermediate_size**2
    assert after.host_memory.value > before.host_memory.value + moments
    assert after.time.value > before.time.value
    assert "rounding by up to 16384 tokens" in after.time.formula
