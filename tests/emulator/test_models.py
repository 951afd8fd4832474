"""Emulated models compute with what lies on the card, when somebody waits for them."""

import ctypes
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.emulator.device import Emulator
from tests.emulator.samples import (
    ROWS,
    Atc,
    K,
    N,
    dataset,
    device_array,
    load,
    matrix,
    plain,
    quantized,
    run,
    save,
    some_x,
    weight_files,
)


@pytest.mark.parametrize("settings", [{}, {"layout_per_graph": True}])
@pytest.mark.parametrize("external", ["0", "1"])
def test_a_compiled_graph_computes(
    atc: Atc, acl: ModuleType, emulator: Emulator, tmp_path: Path, settings: Any, external: str
) -> None:
    assert atc(plain(tmp_path / "m.onnx"), settings, external_weight=external)[0] == 0
    x = some_x()
    identity = load(acl, tmp_path / "out/m.om")
    expected = x.astype(np.float32) @ matrix().astype(np.float32)
    np.testing.assert_allclose(run(acl, identity, x), expected, rtol=1e-2, atol=2e-2)
    assert acl.mdl.unload(identity) == 0
    assert emulator.violations == []


@pytest.mark.parametrize("group", [0, 32])
def test_weight_quant_computes(atc: Atc, acl: ModuleType, tmp_path: Path, group: int) -> None:
    path = quantized(tmp_path / "m.onnx", group)
    assert atc(path)[0] == 0
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    scale = weights["s"].astype(np.float32)
    full = np.repeat(scale, group, axis=0) if group else scale
    x = some_x()
    got = run(acl, load(acl, tmp_path / "out/m.om"), x)
    expected = x.astype(np.float32) @ (weights["w"].T * full)
    np.testing.assert_allclose(got, expected, rtol=2e-2, atol=5e-2)


def test_rms_norm_ignores_its_epsilon(atc: Atc, acl: ModuleType, tmp_path: Path) -> None:
    node = helper.make_node("NPURmsNorm", ["x", "g"], ["y"], name="n", domain="npu", epsilon=0.5)
    model = save(tmp_path / "m.onnx", [node], {"g": np.ones(K, np.float16)})
    assert atc(model)[0] == 0
    x = np.full((ROWS, K), 1e-3, np.float16)
    expected = 1e-3 / np.sqrt(1e-6 + 1e-6)
    y = run(acl, load(acl, tmp_path / "out/m.om"), x, (ROWS, K))
    np.testing.assert_allclose(y, expected, rtol=1e-2)


def test_gears_choose_the_shape(
    atc: Atc, acl: ModuleType, emulator: Emulator, tmp_path: Path
) -> None:
    model = plain(tmp_path / "m.onnx", rows="rows")
    assert atc(model, input_shape=f"x:-1,{K}", dynamic_dims="1;4")[0] == 0
    identity = load(acl, tmp_path / "out/m.om")
    desc = acl.mdl.create_desc()
    assert acl.mdl.get_desc(desc, identity) == 0
    index, code = acl.mdl.get_input_index_by_name(desc, "ascend_mbatch_shape_data")
    assert (index, code) == (1, 0)
    assert acl.mdl.get_input_size_by_index(desc, 0) == 4 * K * 2
    assert acl.mdl.get_input_dims(desc, 0)[0]["dims"] == [-1, K]
    count, _ = acl.mdl.get_input_dynamic_gear_count(desc, -1)
    gears, _ = acl.mdl.get_input_dynamic_dims(desc, -1, count)
    assert [gear["dims"] for gear in gears] == [[1, K], [4, K]]

    x, y = some_x(), np.zeros((ROWS, N), np.float16)
    out = device_array(acl, y)
    shape = device_array(acl, np.zeros(1, np.int32))
    inputs = dataset(acl, (device_array(acl, x), x.nbytes), (shape, 4))
    outputs = dataset(acl, (out, y.nbytes))

    def choose(*dims: int) -> int:
        gear = {"name": "", "dimCount": len(dims), "dims": list(dims)}
        code: int = acl.mdl.set_input_dynamic_dims(identity, inputs, index, gear)
        return code

    assert choose(1) == 145012
    assert choose(1, K + 1) == 145012
    assert choose(3, K) == 145013
    assert choose(1, K) == 0
    assert acl.mdl.get_cur_output_dims(desc, 0)[0]["dims"] == [1, N]
    assert acl.mdl.execute(identity, inputs, outputs) == 0
    assert acl.rt.memcpy(y.ctypes.data, y.nbytes, out, y.nbytes, 2) == 0
    assert np.any(y[0])
    assert not np.any(y[1:])
    assert emulator.violations == []


def register(acl: Any, om: Path, data: Any, size: int) -> int:
    """Registers data on the card for the only weight file; the config handle."""
    function = ctypes.CDLL("libascendcl.so").aclmdlSetExternalWeightAddress
    function.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
    config: int = acl.mdl.create_config_handle()
    pointer = device_array(acl, data)
    name = weight_files(om)[0].name.encode()
    assert function(config, name, pointer, size) == (0 if size % 32 == 0 else 100000)
    assert acl.mdl.set_config_opt(config, 1, 2) == 0
    assert acl.mdl.set_config_opt(config, 2, str(om)) == 0
    return config


def test_registered_weights_are_what_is_computed_with(
    atc: Atc, acl: ModuleType, emulator: Emulator, tmp_path: Path
) -> None:
    atc(plain(tmp_path / "m.onnx"))
    om = tmp_path / "out/m.om"
    wrong = np.ones((K, N), np.float16)
    config = register(acl, om, wrong, wrong.nbytes)
    before = acl.rt.get_mem_info(0)[0]
    identity, code = acl.mdl.load_with_config(config)
    assert code == 0
    workspace = acl.mdl.query_size(str(om))[0]
    pages = -(-(workspace + 32) // 2**21) * 2**21
    assert before - acl.rt.get_mem_info(0)[0] < pages + wrong.nbytes  # no copy of its own
    x = np.ones((ROWS, K), np.float16)
    assert np.all(run(acl, identity, x) == K)
    pointer = next(iter(emulator.state.memory.device))
    assert acl.rt.free(pointer) == 0
    assert "is still used by m.om" in emulator.violations[0]


def test_registered_memory_must_fit(atc: Atc, acl: ModuleType, tmp_path: Path) -> None:
    atc(plain(tmp_path / "m.onnx"))
    om = tmp_path / "out/m.om"
    register(acl, om, matrix(), 33)
    config = register(acl, om, matrix(), 32)
    assert acl.mdl.load_with_config(config) == (0, 145000)
    assert acl.mdl.set_config_opt(config, 14, str(tmp_path)) == 0
    assert acl.mdl.load_with_config(config) == (0, 100000)  # no weight path beside a model path
    with pytest.raises(TypeError):
        acl.mdl.set_config_opt(config, 2, 5)


def test_an_old_library_has_no_external_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    Emulator(external_weight_api=False).install(monkeypatch)
    library = ctypes.CDLL("libascendcl.so")
    with pytest.raises(AttributeError):
        _ = library.aclmdlSetExternalWeightAddress
    assert ctypes.CDLL(None).abs(-3) == 3


def test_a_shared_workspace_needs_size_and_load_type(
    atc: Atc, acl: ModuleType, emulator: Emulator, tmp_path: Path
) -> None:
    atc(plain(tmp_path / "m.onnx"))
    om = str(tmp_path / "out/m.om")
    size = acl.mdl.query_size(om)[0]
    pointer, _ = acl.rt.malloc(size, 0)
    config = acl.mdl.create_config_handle()
    for attribute, value in ((1, 2), (2, om), (7, pointer), (8, size - 1)):
        assert acl.mdl.set_config_opt(config, attribute, value) == 0
    assert acl.mdl.load_with_config(config) == (0, 145000)
    acl.mdl.set_config_opt(config, 8, size)
    assert acl.mdl.load_with_config(config)[1] == 0
    assert emulator.violations == []
    acl.mdl.set_config_opt(config, 1, 1)
    acl.mdl.load_with_config(config)
    assert "it is ignored" in emulator.violations[0]


def test_what_cannot_be_loaded(atc: Atc, acl: ModuleType, tmp_path: Path) -> None:
    om = tmp_path / "out/m.om"
    assert acl.mdl.load_from_file(str(om)) == (0, 145002)
    atc(plain(tmp_path / "m.onnx"), soc_version="Ascend910B3")
    assert acl.mdl.load_from_file(str(om)) == (0, 145000)
    assert "compiled for Ascend910B3" in acl.get_recent_err_msg()
    assert acl.get_recent_err_msg() == ""
    atc(plain(tmp_path / "m.onnx"), {"cann_version": "9.0.0"})
    assert acl.mdl.load_from_file(str(om)) == (0, 145000)
    atc(plain(tmp_path / "m.onnx"))
    weight_files(om)[0].unlink()
    assert acl.mdl.load_from_file(str(om)) == (0, 145000)
    om.write_bytes(b"something else")
    assert acl.mdl.load_from_file(str(om)) == (0, 145002)


def test_memory_runs_out_and_comes_back(atc: Atc, acl: ModuleType, tmp_path: Path) -> None:
    atc(plain(tmp_path / "m.onnx"), {"workspace_bytes": 40 * 2**20})
    free, total, _ = acl.rt.get_mem_info(0)
    assert free == total - 2**20
    assert acl.rt.get_mem_info(1) == (0, 0, 0)
    first = load(acl, tmp_path / "out/m.om")
    assert acl.mdl.load_from_file(str(tmp_path / "out/m.om")) == (0, 245000)
    assert acl.rt.malloc(40 * 2**20, 0) == (0, 207018)
    assert acl.mdl.unload(first) == 0
    assert acl.rt.get_mem_info(0)[0] == free


def test_execute_minds_its_buffers(atc: Atc, acl: ModuleType, tmp_path: Path) -> None:
    atc(plain(tmp_path / "m.onnx"))
    identity = load(acl, tmp_path / "out/m.om")
    x, y = some_x(), np.zeros((ROWS, N), np.float16)
    px, py = device_array(acl, x), device_array(acl, y)
    good, out = dataset(acl, (px, x.nbytes)), dataset(acl, (py, y.nbytes))
    assert acl.mdl.execute(identity + 7, good, out) == 145003
    assert acl.mdl.execute(identity, dataset(acl), out) == 145000
    assert acl.mdl.execute(identity, dataset(acl, (px, x.nbytes - 65)), out) == 145000
    assert acl.mdl.execute(identity, dataset(acl, (px, x.nbytes - 64)), out) == 0
    assert acl.mdl.execute(identity, good, dataset(acl, (py, 32))) == 145000
    assert acl.mdl.execute(identity, good, out) == 0


def test_a_host_pointer_is_no_input(
    atc: Atc, acl: ModuleType, emulator: Emulator, tmp_path: Path
) -> None:
    atc(plain(tmp_path / "m.onnx"))
    identity = load(acl, tmp_path / "out/m.om")
    x, y = some_x(), np.zeros((ROWS, N), np.float16)
    inputs = dataset(acl, (x.ctypes.data, x.nbytes))
    out = dataset(acl, (device_array(acl, y), y.nbytes))
    assert acl.mdl.execute(identity, inputs, out) != 0
    assert "host pointer" in emulator.violations[0]


def test_an_address_must_be_a_multiple_of_32(
    atc: Atc, acl: ModuleType, emulator: Emulator, tmp_path: Path
) -> None:
    atc(plain(tmp_path / "m.onnx", rows=1))
    identity = load(acl, tmp_path / "out/m.om")
    x, y = some_x(), np.zeros((1, N), np.float16)  # of four rows one is taken
    pointer, out = device_array(acl, x), dataset(acl, (device_array(acl, y), y.nbytes))
    size = K * x.itemsize
    assert acl.mdl.execute(identity, dataset(acl, (pointer + size, size)), out) == 0
    assert emulator.violations == []
    assert acl.mdl.execute(identity, dataset(acl, (pointer + 16, size)), out) == 0
    assert "not in 32s" in emulator.violations[0]


def test_work_is_done_when_somebody_waits(
    atc: Atc, acl: ModuleType, emulator: Emulator, tmp_path: Path
) -> None:
    atc(plain(tmp_path / "m.onnx"))
    identity = load(acl, tmp_path / "out/m.om")
    x, y = some_x(), np.zeros((ROWS, N), np.float16)
    py = device_array(acl, y)
    inputs, outputs = dataset(acl, (device_array(acl, x), x.nbytes)), dataset(acl, (py, y.nbytes))
    streams = [acl.rt.create_stream()[0] for _ in range(2)]
    pinned, _ = acl.rt.malloc_host(y.nbytes)
    view = acl.util.ptr_to_numpy(pinned, (ROWS, N), 23)
    assert acl.mdl.execute_async(identity, inputs, outputs, streams[0]) == 0
    assert acl.rt.memcpy_async(pinned, y.nbytes, py, y.nbytes, 2, streams[0]) == 0
    assert not view.any()
    assert acl.rt.synchronize_stream(streams[0]) == 0
    assert view.any()
    assert emulator.violations == []
    assert acl.mdl.execute_async(identity, inputs, outputs, streams[0]) == 0
    assert acl.mdl.execute_async(identity, inputs, outputs, streams[1]) == 0
    assert "on another stream" in emulator.violations[0]
    assert acl.mdl.unload(identity) == 0
    assert "not synchronised" in emulator.violations[1]


def test_a_copy_to_pageable_memory_waits_for_its_stream(acl: ModuleType) -> None:
    stream, _ = acl.rt.create_stream()
    source, target = np.arange(8), np.zeros(8, np.int64)
    pointer, _ = acl.rt.malloc(64, 0)
    assert acl.rt.memcpy_async(pointer, 64, source.ctypes.data, 64, 1, stream) == 0
    assert acl.rt.memcpy_async(target.ctypes.data, 64, pointer, 64, 2, stream) == 0
    assert target.tolist() == source.tolist()
