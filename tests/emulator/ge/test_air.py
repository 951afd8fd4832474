"""`atc --framework=1` refuses of an .air what ATC or a chip refuses; the card computes it."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.emulator.device import Emulator
from tests.emulator.ge.call import Array
from tests.emulator.ge.conftest import Compile
from tests.emulator.ge.samples import Air, K, appended, half, product
from tests.emulator.samples import Atc, dataset, device_array, load, weight_files

N, ROWS = 96, 4


def execute(acl: Any, om: Path, inputs: list[Array], y: Array) -> tuple[int, list[int]]:
    """Runs a model once; the return code and where the inputs lie."""
    identity = load(acl, om)
    pointers = [device_array(acl, array) for array in inputs]
    out = device_array(acl, y)
    sizes = [array.nbytes for array in inputs]
    code = acl.mdl.execute(
        identity,
        dataset(acl, *zip(pointers, sizes, strict=True)),
        dataset(acl, (out, y.nbytes)),
    )
    assert acl.rt.memcpy(y.ctypes.data, y.nbytes, out, y.nbytes, 2) == 0
    return code, pointers


@pytest.mark.parametrize("settings", [{}, {"layout_per_graph": True}])
@pytest.mark.parametrize("external", ["0", "1"])
def test_a_compiled_product_computes(
    compile_air: Compile, acl: ModuleType, tmp_path: Path, settings: Any, external: str
) -> None:
    weight, x = half(K, N), half(ROWS, K)
    model = product(tmp_path / "m.air", weight)
    assert compile_air(model, settings, external_weight=external)[0] == 0
    y = np.zeros((ROWS, N), np.float16)
    assert execute(acl, tmp_path / "out/m.om", [x], y)[0] == 0
    np.testing.assert_allclose(y, x.astype(np.float32) @ weight, rtol=1e-3, atol=2e-2)


def test_a_run_writes_the_memory_that_a_ref_data_is_bound_to(
    compile_air: Compile, acl: ModuleType, emulator: Emulator, tmp_path: Path
) -> None:
    """Zeros too, and no more than its rows; the bus carries nothing for it."""
    assert compile_air(appended(tmp_path / "m.air"))[0] == 0
    row, cache = half(1, 1, K), half(1, 8, K)
    row[..., :5] = 0
    expected = cache.copy()
    expected[:, 3] = row[:, 0]
    y = np.zeros((1, 8, K), np.float16)
    code, pointers = execute(acl, tmp_path / "out/m.om", [row, np.array([3]), cache], y)
    assert code == 0
    assert (y == expected * 2).all()
    got = np.zeros_like(cache)
    assert acl.rt.memcpy(got.ctypes.data, got.nbytes, pointers[2], got.nbytes, 2) == 0
    assert (got == expected).all()
    assert emulator.violations == []


def test_a_row_beyond_the_cache_stops_the_run(
    compile_air: Compile, acl: ModuleType, tmp_path: Path
) -> None:
    assert compile_air(appended(tmp_path / "m.air"))[0] == 0
    given = [half(1, 1, K), np.array([8]), half(1, 8, K)]
    assert execute(acl, tmp_path / "out/m.om", given, half(1, 8, K))[0] == 507011
    assert "writes 8 to 9 of 8 rows" in acl.get_recent_err_msg()


def test_inputs_come_in_the_order_of_their_index(
    compile_air: Compile, acl: ModuleType, tmp_path: Path
) -> None:
    """ge, api/atc/main_impl.cc: numbers that do not count up are replaced by turns."""
    for indices, expected in (((1, 0), ["b", "a"]), ((0, 5), ["a", "b"])):
        air = Air()
        values = [air.data(name, "float16", (2,)) for name in "ab"]
        for op, index in zip(air.model.graph[0].op, indices, strict=True):
            op.attr["index"].i = index
        model = air.save(tmp_path / "m.air", air.op("Add", {"x1": values[0], "x2": values[1]}))
        assert compile_air(model)[0] == 0
        desc = acl.mdl.create_desc()
        assert acl.mdl.get_desc(desc, load(acl, tmp_path / "out/m.om")) == 0
        assert [acl.mdl.get_input_name_by_index(desc, i) for i in range(2)] == expected
        assert acl.mdl.get_num_outputs(desc) == 1
        assert acl.mdl.get_output_name_by_index(desc, 0).startswith("output_0_Add")


def test_equal_weights_of_two_graphs_are_one_file(compile_air: Compile, tmp_path: Path) -> None:
    weight = half(K, N)
    models = [product(tmp_path / f"{rows}.air", weight, rows) for rows in (1, 4)]
    for name, settings, files in (("same", {}, 1), ("differ", {"layout_per_graph": True}, 2)):
        for model in models:
            output = str(tmp_path / name / model.stem)
            assert compile_air(model, settings, output=output)[0] == 0
        assert len(weight_files(tmp_path / name / "1.om")) == files


def test_a_file_is_read_from_an_offset(
    compile_air: Compile, acl: ModuleType, tmp_path: Path
) -> None:
    weight, x = half(K, N), half(ROWS, K)
    model = product(tmp_path / "m.air", weight, offset=128, length=weight.nbytes)
    assert compile_air(model)[0] == 0
    y = np.zeros((ROWS, N), np.float16)
    assert execute(acl, tmp_path / "out/m.om", [x], y)[0] == 0
    assert (y == (x.astype(np.float32) @ weight.astype(np.float32)).astype(np.float16)).all()


def test_mode_1_names_what_is_written_in_place_and_what_is_converted(
    compile_air: Compile, atc: Atc, tmp_path: Path
) -> None:
    def types(soc: str, model: Path) -> list[str]:
        assert compile_air(model, soc_version=soc)[0] == 0
        om, report = tmp_path / "out/m.om", tmp_path / "m.json"
        assert atc(None, mode="1", om=str(om), json=str(report))[0] == 0
        return [op["type"] for op in json.loads(report.read_text())["graph"][0]["op"]]

    assert types("Ascend910B3", appended(tmp_path / "m.air")).count("RefData") == 1
    air = Air()
    x, y = (air.data(name, "float16", (K, K)) for name in "xy")
    w = air.const(half(K, K))
    first = air.op("MatMul", {"x1": x, "x2": w})
    model = air.save(tmp_path / "m.air", air.op("MatMul", {"x1": first, "x2": y}))
    assert types("Ascend310P3", model).count("TransData") == 1
    assert types("Ascend910B3", model).count("TransData") == 0


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (b"no model at all", {}, "E10041"),
        (b"", {}, "E10041"),
        (None, {"tiling_schedule_optimize": "2"}, "E10006"),
        (None, {"input_shape": "x:4,64"}, "not imitated"),
        (None, {"input_format": "NHWC"}, None),
    ],
)
def test_files_and_options_are_checked(
    data: bytes | None,
    options: dict[str, str],
    words: str | None,
    compile_air: Compile,
    tmp_path: Path,
) -> None:
    model = product(tmp_path / "m.air", half(K, N))
    if data is not None:
        model.write_bytes(data)
    code, text = compile_air(model, **options)
    assert code == (0 if words is None else 255)
    assert words is None or words in text


def test_missing_or_short_weights_are_refused(compile_air: Compile, tmp_path: Path) -> None:
    model = product(tmp_path / "m.air", half(K, N))
    data = tmp_path / "m.bin"
    data.write_bytes(data.read_bytes()[:-1])
    assert "Failed to read external weight" in compile_air(model)[1]
    data.unlink()
    assert "Failed to read external weight" in compile_air(model)[1]


def test_an_edge_from_nowhere_is_no_model(compile_air: Compile, tmp_path: Path) -> None:
    air = Air()
    x = air.data("x", "float16", (2,))
    model = air.save(tmp_path / "m.air", air.op("Add", {"x1": x, "x2": "nowhere:0"}))
    assert "E10041" in compile_air(model)[1]
