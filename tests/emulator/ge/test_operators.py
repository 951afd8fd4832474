"""What the GE operators compute is what torch computes, up to a rounding of float16."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.emulator.ge.call import Array
from tests.emulator.ge.graph import graph_of, read_air
from tests.emulator.ge.infer import infer
from tests.emulator.ge.run import GraphSession
from tests.emulator.ge.samples import Air, ge_type, half

RNG = np.random.default_rng(0)


def wide(array: Array) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))


def compute(
    tmp_path: Path,
    kind: str,
    inputs: Mapping[str, Any],
    attributes: Mapping[str, Any] | None = None,
    outputs: int = 1,
    constants: tuple[str, ...] = (),
) -> list[Array]:
    """One operator: inferred, which must say what is computed, and run."""
    air = Air()
    feeds: dict[str, Array] = {}
    given: dict[str, Any] = {}
    for name, array in inputs.items():
        if array is None:
            given[name] = None
        elif isinstance(array, list):
            given[name] = [
                air.data(f"{name}_{i}", a.dtype.name, a.shape) for i, a in enumerate(array)
            ]
            feeds |= {f"{name}_{i}": a for i, a in enumerate(array)}
        elif name in constants:
            given[name] = air.const(array, name)
        else:
            given[name] = air.data(name, array.dtype.name, array.shape)
            feeds[name] = array
    node = air.op(kind, given, attributes, outputs=outputs).partition(":")[0]
    path = air.save(tmp_path / "m.air", *(f"{node}:{number}" for number in range(outputs)))
    graph = graph_of(read_air(path))
    session = GraphSession(graph, {name: (inputs[name], lambda: 0) for name in constants})
    results = session.run([], feeds)
    for number, result in enumerate(results):
        found = infer(graph).types[node, number]
        assert (found.dtype, found.dims) == (result.dtype.name, result.shape)
    return results


def assert_close(found: Array, expected: torch.Tensor, ulps: float = 1) -> None:
    """float16, off by as many spacings of the largest number as are allowed."""
    assert found.dtype == np.float16
    spacing = float(np.spacing(np.float16(expected.abs().max())))
    assert (wide(found) - expected).abs().max() <= ulps * spacing


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["MatMul", "MatMulV2", "BatchMatMul"])
def test_products(kind: str, turned: bool, tmp_path: Path) -> None:
    a, b = half(3, 64), half(64, 5)
    if kind == "BatchMatMul":
        a, b = half(2, 3, 64), half(2, 64, 5)
    flag = "adj_x2" if kind == "BatchMatMul" else "transpose_x2"
    given = {"x1": a, "x2": b.swapaxes(-1, -2).copy() if turned else b}
    [y] = compute(tmp_path, kind, given, {flag: turned})
    assert_close(y, wide(a) @ wide(b))


@pytest.mark.parametrize("group", [0, 32])
@pytest.mark.parametrize("turned", [False, True])
def test_products_with_int8_weights(turned: bool, group: int, tmp_path: Path) -> None:
    x, levels = half(3, 64), RNG.integers(-127, 128, (64, 5), dtype=np.int8)
    scale = RNG.uniform(0.01, 0.02, (2, 5) if group else (5,)).astype(np.float16)
    full = np.repeat(scale, 32, axis=0) if group else scale
    given = {"x": x, "weight": levels, "antiquant_scale": scale}
    if turned:
        given |= {"weight": levels.T.copy(), "antiquant_scale": scale.T.copy()}
    attributes = {"transpose_weight": turned, "antiquant_group_size": group}
    [y] = compute(tmp_path, "WeightQuantBatchMatmulV2", given, attributes)
    assert_close(y, wide(x) @ (wide(levels) * wide(full)), ulps=2)


def test_norms_heed_their_epsilon(tmp_path: Path) -> None:
    x, residual, gamma = half(3, 64) / 100, half(3, 64) / 100, half(64)
    y, _ = compute(tmp_path, "RmsNorm", {"x": x, "gamma": gamma}, {"epsilon": 1e-3}, 2)
    assert_close(y, functional.rms_norm(wide(x), (64,), wide(gamma), 1e-3))
    given = {"x1": x, "x2": residual, "gamma": gamma}
    y, _, total = compute(tmp_path, "AddRmsNorm", given, {"epsilon": 1e-3}, 3)
    assert (total == x + residual).all()
    assert_close(y, functional.rms_norm(wide(total), (64,), wide(gamma), 1e-3), ulps=2)


def rotated(x: Array, cos: Array, sin: Array) -> torch.Tensor:
    left, right = wide(x).chunk(2, -1)
    return wide(x) * wide(cos) + torch.cat((-right, left), -1) * wide(sin)


def test_rotations(tmp_path: Path) -> None:
    angles = RNG.uniform(-3, 3, (1, 4, 1, 64)).astype(np.float32)
    cos, sin = np.cos(angles).astype(np.float16), np.sin(angles).astype(np.float16)
    query, key = half(1, 4, 6, 64), half(1, 4, 2, 64)
    given = {"query": query, "key": key, "cos": cos, "sin": sin}
    for found, array in zip(
        compute(tmp_path, "ApplyRotaryPosEmb", given, outputs=2), (query, key), strict=True
    ):
        assert_close(found, rotated(array, cos, sin), ulps=2)  # rounded three times
    [y] = compute(tmp_path, "RotaryMul", {"x": key, "r1": cos, "r2": sin})
    assert_close(y, rotated(key, cos, sin), ulps=2)


def test_swiglu_and_swish(tmp_path: Path) -> None:
    x = half(3, 64)
    left, right = wide(x).chunk(2, -1)
    [y] = compute(tmp_path, "SwiGlu", {"x": x}, {"dim": -1})
    assert_close(y, functional.silu(left) * right)
    [y] = compute(tmp_path, "Swish", {"x": x})
    assert_close(y, functional.silu(wide(x)))


def expected_attention(
    query: Array, key: Array, value: Array, hidden: Array | None
) -> torch.Tensor:
    """(B, S, N, D) over (B, T, G, D), by torch."""
    q, k, v = (wide(x).transpose(1, 2) for x in (query, key, value))
    mask = None if hidden is None else torch.from_numpy(~hidden)
    out = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, scale=0.25, enable_gqa=True
    )
    return out.transpose(1, 2)


def attend(tmp_path: Path, arrays: tuple[Array, Array, Array], layout: str, **more: Any) -> Array:
    query, key, value = arrays
    if layout == "BSH":
        query, key, value = (x.reshape(*x.shape[:2], -1) for x in arrays)
    given = {"query": query, "key": [key], "value": [value], "pse_shift": None}
    given |= {name: more.pop(name) for name in tuple(more) if isinstance(more[name], np.ndarray)}
    attributes = {
        "num_heads": arrays[0].shape[2],
        "num_key_value_heads": arrays[1].shape[2],
        "scale": 0.25,
        "input_layout": layout,
        **more,
    }
    y = compute(tmp_path, "FusedInferAttentionScore", given, attributes, 2)[0]
    return y.reshape(arrays[0].shape)


@pytest.mark.parametrize("layout", ["BSH", "BSND"])
def test_attention_of_one_row_reads_as_many_rows_as_there_are(layout: str, tmp_path: Path) -> None:
    arrays = half(2, 1, 6, 16), half(2, 9, 2, 16), half(2, 9, 2, 16)
    lengths = np.array([4, 9])
    hidden = (np.arange(9) >= lengths[:, None])[:, None, None]
    arrays[1][0, 4:] = np.nan  # nobody reads them
    arrays[2][0, 4:] = np.nan
    y = attend(tmp_path, arrays, layout, actual_seq_lengths_kv=lengths)
    clean = [np.nan_to_num(array) for array in arrays]
    assert_close(y, expected_attention(clean[0], clean[1], clean[2], hidden))


@pytest.mark.parametrize("layout", ["BSH", "BSND"])
def test_attention_of_many_rows_heeds_its_mask(layout: str, tmp_path: Path) -> None:
    arrays = half(1, 3, 4, 16), half(1, 9, 4, 16), half(1, 9, 4, 16)
    hidden = (np.arange(9) > np.arange(3)[:, None] + 4)[None, None]
    y = attend(tmp_path, arrays, layout, atten_mask=hidden)
    assert_close(y, expected_attention(*arrays, hidden))
    y = attend(tmp_path, arrays, layout)
    assert_close(y, expected_attention(*arrays, None))


def test_a_causal_mode_counts_from_the_last_row(tmp_path: Path) -> None:
    arrays = half(1, 3, 4, 16), half(1, 9, 4, 16), half(1, 9, 4, 16)
    triangle, lengths = ~np.tri(2048, dtype=np.bool_), np.array([7])
    given = {"atten_mask": triangle, "actual_seq_lengths_kv": lengths}
    y = attend(tmp_path, arrays, "BSH", sparse_mode=3, **given)
    hidden = (np.arange(9) > np.arange(3)[:, None] + 4)[None, None]
    assert_close(y, expected_attention(*arrays, hidden))
    with pytest.raises(ValueError, match="no triangle"):
        attend(tmp_path, arrays, "BSH", sparse_mode=3, **{**given, "atten_mask": ~triangle})


def test_a_masked_row_that_holds_no_number_spoils_the_result(tmp_path: Path) -> None:
    arrays = half(1, 3, 4, 16), half(1, 9, 4, 16), half(1, 9, 4, 16)
    arrays[2][0, 8] = np.nan
    hidden = np.broadcast_to(np.arange(9) == 8, (1, 1, 3, 9))
    assert np.isnan(attend(tmp_path, arrays, "BSH", atten_mask=hidden)).all()


def test_a_scatter_writes_in_place_and_never_beyond_the_end(tmp_path: Path) -> None:
    var, updates = half(2, 5, 8), half(2, 2, 8)
    expected = var.copy()
    expected[0, 3:5], expected[1, 1:3] = updates
    given = {"var": var, "indices": np.array([3, 1]), "updates": updates}
    compute(tmp_path, "Scatter", given, {"reduce": "update", "axis": 1})
    assert (var == expected).all()
    given |= {"indices": np.array([4, 0])}
    with pytest.raises(IndexError, match="writes 4 to 6 of 5 rows"):
        compute(tmp_path, "Scatter", given, {"reduce": "update", "axis": 1})


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes", "outputs"),
    [
        ("Reshape", {"x": half(2, 6), "shape": np.array([3, -1])}, {}, [(3, 4)]),
        ("Transpose", {"x": half(2, 6), "perm": np.array([1, 0])}, {}, [(6, 2)]),
        ("Unsqueeze", {"x": half(2, 6)}, {"axes": [1]}, [(2, 1, 6)]),
        ("ConcatV2", {"x": [half(2, 6), half(2, 1)], "concat_dim": np.array(1)}, {}, [(2, 7)]),
        ("ConcatD", {"x": [half(2, 6), half(2, 1)]}, {"concat_dim": 1, "N": 2}, [(2, 7)]),
        ("Pack", {"x": [half(2), half(2)]}, {"axis": 1, "N": 2}, [(2, 2)]),
        (
            "SplitV",
            {"x": half(2, 6), "size_splits": np.array([1, -1, 2]), "split_dim": np.array(1)},
            {},
            [(2, 1), (2, 3), (2, 2)],
        ),
        ("Split", {"split_dim": np.array(1), "x": half(2, 6)}, {"num_split": 2}, [(2, 3)] * 2),
        (
            "GatherV2",
            {"x": half(4, 6), "indices": np.array([[3]]), "axis": np.array(0)},
            {},
            [(1, 1, 6)],
        ),
        (
            "IndexByTensor",
            {"x": half(4, 6), "indices": [np.array([3, 1])]},
            {"indices_mask": [1]},
            [(2, 6)],
        ),
        (
            "StridedSliceV2",
            {
                "x": half(4, 6),
                "begin": np.array([1]),
                "end": np.array([9]),
                "axes": np.array([1]),
                "strides": np.array([2]),
            },
            {},
            [(4, 3)],
        ),
        ("BroadcastTo", {"x": half(1, 6), "shape": np.array([4, 6])}, {}, [(4, 6)]),
        ("Cast", {"x": half(4, 6)}, {"dst_type": ge_type("int64")}, [(4, 6)]),
        ("Greater", {"x1": half(4, 1), "x2": half(6)}, {}, [(4, 6)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_shapes(
    kind: str,
    inputs: dict[str, Any],
    attributes: dict[str, Any],
    outputs: list[tuple[int, ...]],
    tmp_path: Path,
) -> None:
    numbers = tuple(n for n, a in inputs.items() if not isinstance(a, list) and a.dtype == np.int64)
    constants = tuple(name for name in numbers if name != "indices")
    found = compute(tmp_path, kind, inputs, attributes, len(outputs), constants)
    assert [array.shape for array in found] == outputs
