"""Tiny models and the steps around them that every test of the emulator takes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.emulator.atc import Settings, main

ROWS, K, N = 4, 64, 96


def save(path: Path, nodes: list[Any], weights: dict[str, Any], **options: Any) -> Path:
    """A model that takes x (rows, K) and gives y, with its weights in a file of their own."""
    element = options.get("element", TensorProto.FLOAT16)
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", element, [options.get("rows", ROWS), K])],
        [helper.make_tensor_value_info("y", element, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    domains = [helper.make_opsetid("", options.get("opset", 17)), helper.make_opsetid("npu", 1)]
    model = helper.make_model(graph, opset_imports=domains)
    data = path.name + ".data"
    onnx.save(model, path, save_as_external_data=True, location=data, size_threshold=0)
    return path


def matrix(dtype: Any = np.float16) -> Any:
    return np.random.default_rng(0).standard_normal((K, N)).astype(dtype)


def plain(path: Path, **options: Any) -> Path:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")
    dtype = np.float32 if options.get("element") == TensorProto.FLOAT else np.float16
    return save(path, [node], {"w": matrix(dtype)}, **options)


def quantized(path: Path, group: int = 0, **options: Any) -> Path:
    groups = -(-K // group) if group else 1
    scale = np.random.default_rng(1).uniform(0.01, 0.02, (groups, N)).astype(np.float16)
    weight = np.random.default_rng(2).integers(-127, 128, (K, N), dtype=np.int8)
    turn = helper.make_node("Transpose", ["w"], ["turned"], name="turn", perm=[1, 0])
    node = helper.make_node(
        "WeightQuantBatchMatmulV2",
        ["x", "turned", "s"],
        ["y"],
        name="quant",
        domain="npu",
        antiquant_group_size=group,
    )
    scales = scale if group else scale.reshape(-1)
    weights = {"w": np.ascontiguousarray(weight.T)}
    return save(path, [turn, node], {**weights, "s": options.pop("scale", scales)}, **options)


class Atc:
    """The command line with the usual options, run in this process."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self.capsys = directory, capsys

    def __call__(
        self, model: Path | None, settings: dict[str, Any] | None = None, /, **options: str
    ) -> tuple[int, str]:
        file = self.directory / "atc.json"
        file.write_text(json.dumps(asdict(Settings(**(settings or {})))))
        usual = {
            "framework": "5",
            "output": str(self.directory / "out" / "m"),
            "soc_version": "Ascend310P3",
            "input_format": "ND",
            "precision_mode_v2": "origin",
            "external_weight": "1",
        }
        merged = {**usual, "model": str(model), **options} if model else options
        code = main([f"--{key}={value}" for key, value in merged.items()], file)
        return code, self.capsys.readouterr().out


def device_array(acl: Any, array: Any) -> int:
    pointer: int
    pointer, code = acl.rt.malloc(array.nbytes, 0)
    assert code == 0
    assert acl.rt.memcpy(pointer, array.nbytes, array.ctypes.data, array.nbytes, 1) == 0
    return pointer


def dataset(acl: Any, *buffers: tuple[int, int]) -> int:
    made: int = acl.mdl.create_dataset()
    for pointer, size in buffers:
        assert acl.mdl.add_dataset_buffer(made, acl.create_data_buffer(pointer, size)) == (made, 0)
    return made


def load(acl: Any, path: Path) -> int:
    identity: int
    identity, code = acl.mdl.load_from_file(str(path))
    assert code == 0, acl.get_recent_err_msg()
    return identity


def run(acl: Any, identity: int, x: Any, shape: tuple[int, ...] = (ROWS, N)) -> Any:
    y = np.zeros(shape, x.dtype)
    inputs = dataset(acl, (device_array(acl, x), x.nbytes))
    pointer = device_array(acl, y)
    code = acl.mdl.execute(identity, inputs, dataset(acl, (pointer, y.nbytes)))
    assert code == 0, acl.get_recent_err_msg()
    assert acl.rt.memcpy(y.ctypes.data, y.nbytes, pointer, y.nbytes, 2) == 0
    return y


def some_x(rows: int = ROWS) -> Any:
    return np.random.default_rng(3).standard_normal((rows, K)).astype(np.float16)


def weight_files(om: Path) -> list[Path]:
    return sorted((om.parent / "weight").iterdir())
