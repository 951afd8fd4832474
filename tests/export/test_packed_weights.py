"""Checkpoints of GPTQ and AWQ are taken as they are: the same levels, and no second rounding."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from export.checkpoint import open_checkpoint
from export.config import load_config
from export.errors import CheckpointError, ConfigError
from export.lora import Adapter, open_weights
from runtime.bundle.node_names import LM_HEAD, module_of
from runtime.bundle.reader import Bundle
from runtime.errors import UserError
from runtime.sessions import open_session
from tests.acceptance.beside_transformers import export_small, greedy
from tests.export.packed_checkpoints import FORMATS, save_packed
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.errors import TargetError

INT4 = Choices(target="cpu", weights="int4")
OTHERS = Choices(target="cpu", weights="int4", kernels="onnxruntime")


@pytest.mark.parametrize("name", FORMATS)
def test_every_precision_computes_with_what_the_levels_stand_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    theirs = save_packed(tmp_path / "model", FORMATS[name], name="Qwen 2.5")
    exported = export_small(tmp_path)
    for key, expected in theirs.state_dict().items():
        file = exported.path / "graphs" / "weights" / key.removeprefix("model.")
        if file.exists():
            found = np.fromfile(file, np.float16).reshape(expected.shape)
            assert (found == expected.half().numpy()).all(), key

    int4 = compile_bundle(exported, tmp_path / "int4", INT4)
    said = greedy(open_session(int4))
    assert said.relative(said.theirs(theirs)) < 0.06  # activations are rounded to int8

    level = "toolchain.targets.cpu.quantize_weights.ACCURACY_LEVEL"
    monkeypatch.setattr(level, 1)  # float32 activations, of ONNX Runtime's product alone
    exact = compile_bundle(exported, tmp_path / "exact", OTHERS)
    assert all(len(node.inputs) == 3 + FORMATS[name].asymmetric for node in _layers(exact))
    said = greedy(open_session(exact))
    assert said.largest(said.theirs(_with_head(exact, theirs))) < 1e-3


def _layers(bundle: Bundle) -> list[ir.Node]:
    graph = ir.load(bundle.file("graphs/decoder.onnx")).graph
    products = [node for node in graph if node.op_type == "MatMulNBits"]
    return [node for node in products if node.name != LM_HEAD]


def _with_head(bundle: Bundle, model: Any) -> Any:
    """The model with the head that a bundle has, whose int8 is not what this is about."""
    graph = ir.load(bundle.file("graphs/decoder.onnx")).graph
    head = next(node for node in graph if node.name == LM_HEAD)
    levels, scales = _constants(head)
    weight = (levels.astype(np.float32) - 128) * scales[..., None]
    weight = weight.reshape(len(levels), -1)[:, : model.config.hidden_size]
    copied = type(model)(model.config)
    copied.load_state_dict(model.state_dict())
    copied.lm_head.weight = torch.nn.Parameter(torch.from_numpy(weight))
    return copied.train(False)


@pytest.mark.parametrize(("name", "group_size"), [("gptq", 64), ("awq", 128)])
def test_int4_has_the_levels_that_came_without_a_second_rounding(
    tmp_path: Path, name: str, group_size: int
) -> None:
    theirs = save_packed(
        tmp_path / "model",
        FORMATS[name],
        group_size,
        hidden_size=128,
        intermediate_size=256,
        head_dim=32,
    ).state_dict()
    bundle = compile_bundle(export_small(tmp_path), tmp_path / "int4", OTHERS)
    assert bundle.manifest.profile["block_size"] == group_size
    for node in _layers(bundle):
        names = [f"model.{module_of(str(node.name))}.weight"]
        if "qkv_proj" in names[0]:
            names = [names[0].replace("qkv_proj", each) for each in ("q_proj", "k_proj", "v_proj")]
        expected = np.concatenate([theirs[each].numpy() for each in names])
        assert (_numbers(node).reshape(expected.shape) == expected).all(), names


def _numbers(product: ir.Node) -> NDArray[np.float32]:
    """(level - zero point) * scale, by the description of MatMulNBits."""
    levels, scales, *zeros = _constants(product)
    points = _halves(zeros[0])[:, : scales.shape[1]] if zeros else np.full(scales.shape, 8)
    wide = _halves(levels.reshape(len(levels), -1)).reshape(*scales.shape, -1)
    numbers: NDArray[np.float32] = (wide - points[..., None]).astype(np.float32) * scales[..., None]
    return numbers


def _halves(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1).astype(np.int64)


def _constants(product: ir.Node) -> list[NDArray[Any]]:
    values = [value.const_value for value in product.inputs[1:] if value is not None]
    return [value.numpy() for value in values if value is not None]


def test_what_the_levels_cannot_be_taken_with_is_refused_by_name(tmp_path: Path) -> None:
    model = tmp_path / "model"
    save_packed(model, FORMATS["gptq"])
    config = json.loads((model / "config.json").read_text())
    settings = config["quantization_config"]
    for changes, said in (
        ({"quant_method": "fp8"}, "allowed: quant_method gptq or awq"),
        ({"bits": 8}, "bits of gptq; got 8; allowed: 4"),
        ({"bits": None}, "bits of gptq; got None; allowed: 4"),
        ({"group_size": -1}, "group_size of gptq; got -1; allowed: 32 or 64 or 128"),
        ({"desc_act": True}, "desc_act of gptq; got True; allowed: False"),
        ({"sym": 1}, "sym of gptq; got 1; allowed: True or False"),
        ({"checkpoint_format": "marlin"}, "got marlin; allowed: gptq or gptq_v2"),
        ({"quant_method": "awq"}, "zero_point of awq; got None; allowed: True"),
        ({"quant_method": "awq", "zero_point": True, "version": "gemv"}, "got gemv"),
    ):
        changed = {**config, "quantization_config": {**settings, **changes}}
        (model / "config.json").write_text(json.dumps(changed))
        message = refusal(ConfigError, model)
        assert message.startswith(f"{model / 'config.json'}: quantization_config")
        assert said in message
        assert message.endswith("give the checkpoint before quantisation")


def test_an_older_checkpoint_of_gptq_has_its_settings_in_a_file_of_their_own(
    tmp_path: Path,
) -> None:
    model = tmp_path / "model"
    save_packed(model, FORMATS["gptq"])
    config = json.loads((model / "config.json").read_text())
    settings = config.pop("quantization_config")
    (model / "config.json").write_text(json.dumps(config))
    message = refusal(CheckpointError, model)
    assert message.startswith("the checkpoint has weights of GPTQ or AWQ: it has unexpected ")
    assert message.endswith(
        "copy its quantization_config into config.json; it says how they are packed"
    )
    del settings["quant_method"]
    (model / "quantize_config.json").write_text(json.dumps(settings))
    assert open_checkpoint(model, load_config(model)).packed


def test_tensors_that_do_not_fit_their_settings_are_refused_by_name(tmp_path: Path) -> None:
    model = tmp_path / "model"
    save_packed(model, FORMATS["gptq"])
    tensors = load_file(model / "model.safetensors")
    module = "model.layers.1.mlp.up_proj"
    order = torch.arange(64, dtype=torch.int32).flip(0) // 32
    for name, tensor, said in (
        ("qweight", None, f"{module}.qweight; got none; allowed: int32 (8, 96), for gptq, "),
        ("qzeros", torch.zeros(2, 12), f"{module}.qzeros; got float32 (2, 12); allowed: int32 "),
        ("scales", torch.zeros(1, 96).half(), f"{module}.scales; got float16 (1, 96); allowed: "),
        ("g_idx", order, f"{module} has its columns in the order of the activations"),
        ("qzeros", torch.zeros(2, 12).int(), f"{module} has zero points that symmetric levels"),
        ("bias", torch.ones(96).half(), f"unexpected {module}.bias"),
    ):
        changed = {**tensors, f"{module}.{name}": tensor}
        kept = {key: value for key, value in changed.items() if value is not None}
        save_file(kept, model / "model.safetensors")
        message = refusal(CheckpointError, model)
        assert said in message
    save_file({**tensors, f"{module}.bias": torch.zeros(96).half()}, model / "model.safetensors")
    open_checkpoint(model, load_config(model))  # as older tools write for every layer


def refusal(kind: type[UserError], model: Path) -> str:
    with pytest.raises(kind) as caught:
        read(model)
    return str(caught.value)


def read(model: Path) -> None:
    checkpoint = open_checkpoint(model, load_config(model))
    for parameter in checkpoint.packed:
        checkpoint.tensor(parameter)


def test_levels_are_not_calibrated_and_int8_is_made_of_their_numbers(tmp_path: Path) -> None:
    save_packed(tmp_path / "model", FORMATS["awq"])
    exported = export_small(tmp_path)
    choices = Choices(target="cpu", weights="int4", calibrate="builtin")
    with pytest.raises(TargetError, match="int4 keeps their levels; got --calibrate builtin"):
        compile_bundle(exported, tmp_path / "no", choices)
    assert not (tmp_path / "no").exists()
    compile_bundle(exported, tmp_path / "int8", Choices(target="cpu", weights="int8"))


def test_an_adapter_is_not_merged_into_levels(tmp_path: Path) -> None:
    model = tmp_path / "model"
    save_packed(model, FORMATS["awq"])
    config = load_config(model)
    adapter = Adapter(
        directory=model, base=config, merged=config, whole={}, low_rank={}, weights=model
    )
    with pytest.raises(CheckpointError, match=r"cannot be merged into the levels .* got awq, a "):
        open_weights(model, config, adapter)
