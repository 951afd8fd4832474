"""Which GE operators a chip has, what they take, and in which order a cache may be used."""

from pathlib import Path
from typing import Any

import pytest

from tests.emulator.ge.conftest import Compile
from tests.emulator.ge.samples import Air, K, appended


def attention(**attributes: Any) -> tuple[Air, str]:
    air = Air()
    query = air.data("query", "float16", (1, 1, 4 * 16))
    cache = air.data("cache", "float16", (1, 8, 2 * 16))
    lengths = air.data("lengths", "int64", (1,))
    given = {"query": query, "key": [cache], "value": [cache], "actual_seq_lengths_kv": lengths}
    usual = {"num_heads": 4, "num_key_value_heads": 2, "scale": 0.25, "input_layout": "BSH"}
    kind = "FusedInferAttentionScore"
    return air, air.op(kind, given, {**usual, **attributes}, outputs=2)


def rotation(size: int) -> tuple[Air, str]:
    air = Air()
    query, key = (air.data(name, "float16", (1, 4, 2, size)) for name in ("q", "k"))
    table = air.data("t", "float16", (1, 4, 1, size))
    given = {"query": query, "key": key, "cos": table, "sin": table}
    return air, air.op("ApplyRotaryPosEmb", given, {"layout": 1}, outputs=2)


def unknown() -> tuple[Air, str]:
    air = Air()
    return air, air.op("NoSuchOp", {"x": air.data("x", "float16", (2,))})


def wide_product() -> tuple[Air, str]:
    air = Air()
    x, w = (air.data(name, "float32", (K, K)) for name in "xw")
    return air, air.op("MatMul", {"x1": x, "x2": w})


def mixed_sum() -> tuple[Air, str]:
    air = Air()
    x, y = air.data("x", "float32", (2,)), air.data("y", "float16", (2,))
    return air, air.op("Add", {"x1": x, "x2": y})


@pytest.mark.parametrize(
    ("made", "options", "words"),
    [
        (attention(), {}, None),
        (attention(), {"soc_version": "Ascend310P3"}, "EZ3003"),
        (attention(), {"tiling_schedule_optimize": "0"}, "is not imitated"),
        (attention(num_key_value_heads=3), {}, "num_key_value_heads 3"),
        (attention(input_layout="BNSD"), {}, "layout BNSD"),
        (rotation(128), {"soc_version": "Ascend310P3"}, None),
        (rotation(32), {}, "the last of (64, 128)"),
        (unknown(), {}, "E10501"),
        (wide_product(), {}, None),
        (wide_product(), {"soc_version": "Ascend310P3"}, "x1 is float32"),
        (mixed_sum(), {}, "operands are float32, float16"),
    ],
)
def test_operators_have_chips_and_limits(
    made: tuple[Air, str],
    options: dict[str, str],
    words: str | None,
    compile_air: Compile,
    tmp_path: Path,
) -> None:
    air = Air()
    air.model.CopyFrom(made[0].model)
    path = tmp_path / "m.air"
    air._graph = air.model.graph[0]
    code, text = compile_air(air.save(path, made[1]), **options)
    assert code == (0 if words is None else 255), text
    assert words is None or words in text


def test_an_in_place_write_has_no_kernel_on_a_310p(compile_air: Compile, tmp_path: Path) -> None:
    _, text = compile_air(appended(tmp_path / "m.air"), soc_version="Ascend310P3")
    assert "EZ3003" in text
    assert "optype [Scatter]" in text


def test_a_cache_that_is_read_at_any_time_is_refused(compile_air: Compile, tmp_path: Path) -> None:
    _, text = compile_air(appended(tmp_path / "m.air", ordered=False))
    assert "reads it any time" in text


def test_ref_data_needs_cann_8_5(compile_air: Compile, tmp_path: Path) -> None:
    model = appended(tmp_path / "m.air")
    assert "RefData" in compile_air(model, {"cann_version": "8.3.RC1"})[1]
    assert compile_air(model, {"cann_version": "9.1.0"})[0] == 0
