"""Attention as an operator of ONNX Runtime: its inputs, its cache and what it refuses."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from runtime.kernels.layout import ATTENTION, DOMAIN
from runtime.kernels.library import Kernels
from runtime.sessions.onnx.quiet_ort import ort
from tests.runtime.kernels.attention import Case, random_case
from tests.toolchain.targets.cpu.one_node import open_node

INPUTS = ("query", "key", "value", "keys", "values", "last_positions", "cos", "sin")
SCALES = ("key_scale", "value_scale")
PACKED = ("key", "value")  # that come with the queries
Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def case() -> Case:
    """Three sequences of different lengths, one of them idle: it writes where its slot is free."""
    return random_case(np.random.default_rng(0), [40, 0, 600], 1, (4, 2), 64)


def open_attention(
    kernels: Kernels, case: Case, *, packed: bool = False, threads: int = 1, kv_num_heads: int = 2
) -> ort.InferenceSession:
    left_out = PACKED if packed else ()
    values = {
        name: ir.Value(
            name=name,
            type=ir.TensorType(ir.DataType.from_numpy(getattr(case, name).dtype)),
        )
        for name in (*INPUTS, *SCALES)
        if name not in left_out
    }
    node = ir.node(
        ATTENTION,
        [values.get(name) for name in (*INPUTS, *SCALES)],
        {"num_heads": case.query.shape[2], "kv_num_heads": kv_num_heads},
        domain=DOMAIN,
        num_outputs=3,
    )
    dtypes = (ir.DataType.FLOAT, ir.DataType.INT8, ir.DataType.INT8)
    for output, name, dtype in zip(node.outputs, ("y", "k", "v"), dtypes, strict=True):
        output.name, output.dtype = name, dtype
    return open_node(kernels, list(values.values()), node, threads=threads)


def given(case: Case, *, packed: bool = False) -> Arrays:
    """What the graph takes: heads beside each other, and with them key and value if packed."""
    arrays = case.arrays
    rows = {
        name: arrays[name].reshape(*arrays[name].shape[:2], -1)
        for name in ("query", *(PACKED if packed else ()))
    }
    if packed:
        rows = {"query": np.concatenate(list(rows.values()), axis=2)}
        arrays = {name: array for name, array in arrays.items() if name not in PACKED}
    return arrays | rows


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("starts", "num_rows"), [([40, 0, 600], 1), ([70], 130), ([0], 2)])
def test_it_is_the_attention_of_the_library(
    kernels: Kernels, starts: list[int], num_rows: int, threads: int, packed: bool
) -> None:
    case = random_case(np.random.default_rng(0), starts, num_rows, (4, 2), 64)
    session = open_attention(kernels, case, packed=packed, threads=threads)
    y, keys, values = session.run(None, given(case, packed=packed))
    expected, *cache = case.run(kernels)
    np.testing.assert_array_equal(y.reshape(expected.shape), expected)
    np.testing.assert_array_equal([keys, values], cache)


def test_a_cache_that_is_bound_to_both_ends_is_written_where_it_is_read(
    kernels: Kernels, case: Case
) -> None:
    session, arrays = open_attention(kernels, case), given(case)
    binding = session.io_binding()
    for name, array in arrays.items():
        binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    for name, array in (("k", arrays["keys"]), ("v", arrays["values"])):
        binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    expected, *cache = case.run(kernels)
    y = binding.copy_outputs_to_cpu()[-1]  # in the order of binding
    np.testing.assert_array_equal(y.reshape(expected.shape), expected)
    np.testing.assert_array_equal([arrays["keys"], arrays["values"]], cache)


def test_no_rows_give_no_rows(kernels: Kernels, case: Case) -> None:
    arrays = given(case) | {
        name: np.zeros((3, 0, heads * 64), np.float32)
        for name, heads in (("query", 4), ("key", 2), ("value", 2))
    }
    y, keys, _ = open_attention(kernels, case).run(None, arrays)
    assert y.shape == (3, 0, 256)
    np.testing.assert_array_equal(keys, case.keys)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("query", (3, 1, 255), "no such number of heads"),
        ("query", (3, 256), "another rank"),
        ("key", (3, 1, 64), "sizes differ"),
        ("value", (3, 2, 128), "sizes differ"),
        ("keys", (2, 2, 602, 64), "no such number of heads"),
        ("keys", (3, 2, 602, 32), "no such number of heads"),
        ("values", (3, 2, 500, 64), "sizes differ"),
        ("last_positions", (2,), "sizes differ"),
        ("cos", (600, 32), "sizes differ"),
        ("sin", (600, 32), "sizes differ"),
        ("key_scale", (2, 63), "sizes differ"),
        ("value_scale", (1, 64), "sizes differ"),
    ],
)
def test_inputs_that_do_not_belong_together_are_refused(
    kernels: Kernels, case: Case, name: str, shape: tuple[int, ...], said: str
) -> None:
    arrays = given(case)
    arrays[name] = np.zeros(shape, arrays[name].dtype)
    with pytest.raises(Exception, match=f"CachedAttention: .*{said}"):
        open_attention(kernels, case).run(None, arrays)


@pytest.mark.parametrize("last", [-1, 602, 2**31 - 1, -(2**31)])
def test_rows_outside_the_cache_are_refused(kernels: Kernels, case: Case, last: int) -> None:
    arrays = given(case)
    arrays["last_positions"][1] = last
    with pytest.raises(Exception, match="a new row lies outside the cache"):
        open_attention(kernels, case).run(None, arrays)


@pytest.mark.parametrize("kv_num_heads", [0, -1, 3])
def test_heads_that_do_not_divide_are_refused(
    kernels: Kernels, case: Case, kv_num_heads: int
) -> None:
    with pytest.raises(Exception, match="no such number of heads"):
        open_attention(kernels, case, kv_num_heads=kv_num_heads).run(None, given(case))
