"""The operator and the layout that compile writes, beside ONNX Runtime's own."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.kernels.layout import BITS, BLOCK_SIZES, DOMAIN, OPERATOR
from runtime.kernels.library import Kernels
from runtime.sessions.onnx.quiet_ort import ort
from tests.toolchain.targets.cpu.one_node import open_node
from toolchain.targets.cpu.blocks import dequantize_blocks, quantize_blocks
from toolchain.targets.cpu.tiles import tiled

Arrays = tuple[NDArray[np.generic], NDArray[np.generic]]


def open_product(
    kernels: Kernels, weights: Arrays, attributes: dict[str, int], threads: int = 1
) -> ort.InferenceSession:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    constants = [
        ir.Value(name=name, const_value=ir.Tensor(array, name=name))
        for name, array in zip(("levels", "scales"), weights, strict=True)
    ]
    node = ir.node(OPERATOR, [x, *constants], attributes, domain=DOMAIN)
    node.outputs[0].name, node.outputs[0].dtype = "y", ir.DataType.FLOAT
    return open_node(kernels, [x], node, constants, threads)


def run(session: ort.InferenceSession, x: NDArray[np.float32]) -> NDArray[np.float32]:
    [y] = session.run(None, {"x": x})
    result: NDArray[np.float32] = y
    return result


def quantized(
    num_rows: int, num_columns: int, bits: int, block_size: int
) -> tuple[Arrays, dict[str, int], NDArray[np.float32]]:
    """Weights in tiles, the node's attributes, and what the weights stand for."""
    weight = np.random.default_rng(0).normal(size=(num_rows, num_columns)).astype(np.float32)
    packed, scales = quantize_blocks(weight, bits, block_size)
    scales = scales.astype(np.float16).astype(np.float32)
    attributes = {"K": num_columns, "N": num_rows, "bits": bits, "block_size": block_size}
    return (
        tiled(packed, scales, bits),
        attributes,
        dequantize_blocks(packed, scales, bits)[:, :num_columns],
    )


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num_rows=st.integers(1, 50),
    num_columns=st.integers(1, 300),
    bits=st.sampled_from(BITS),
    block_size=st.sampled_from(BLOCK_SIZES),
)
def test_the_tiles_stand_for_the_weights(
    kernels: Kernels, num_rows: int, num_columns: int, bits: int, block_size: int
) -> None:
    weights, attributes, values = quantized(num_rows, num_columns, bits, block_size)
    x = np.eye(num_columns, dtype=np.float32)  # a level of 127 and nothing lost
    y = run(open_product(kernels, weights, attributes), x)
    np.testing.assert_allclose(y, values.T, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", [(200,), (1, 200), (3, 200), (2, 5, 200), (1, 70, 200)])
@pytest.mark.parametrize("bits", BITS)
def test_threads_change_no_bit_and_rows_keep_their_shape(
    kernels: Kernels, shape: tuple[int, ...], bits: int
) -> None:
    weights, attributes, _ = quantized(300, 200, bits, 64)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    results = [run(open_product(kernels, weights, attributes, n), x) for n in (1, 2, 3)]
    assert results[0].shape == (*shape[:-1], 300)
    assert len({result.tobytes() for result in results}) == 1
    levels, scales = weights
    alone = kernels.multiply(
        x.reshape(-1, 200),
        levels.astype(np.uint8),
        scales.astype(np.float16),
        300,
        bits=bits,
        block_size=64,
    )
    assert alone.tobytes() == results[0].tobytes()


def test_no_rows_give_no_rows(kernels: Kernels) -> None:
    weights, attributes, _ = quantized(20, 40, 4, 32)
    y = run(open_product(kernels, weights, attributes), np.zeros((0, 40), np.float32))
    assert y.shape == (0, 20)


def test_rows_of_another_length_are_refused(kernels: Kernels) -> None:
    weights, attributes, _ = quantized(20, 40, 4, 32)
    session = open_product(kernels, weights, attributes)
    with pytest.raises(Exception, match="last dimension of x is not K"):
        run(session, np.zeros((1, 41), np.float32))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"N": 33}, "constants of the node's shape", id="too few tiles"),
        pytest.param({"K": 65}, "constants of the node's shape", id="too few blocks"),
        pytest.param({"block_size": 48}, "no such size", id="block size"),
        pytest.param({"bits": 3}, "no such size", id="bits"),
        pytest.param({"N": 0}, "no such size", id="no rows"),
        pytest.param({"K": None}, "K", id="no K"),
    ],
)
def test_a_node_that_its_weights_do_not_fit_is_refused(
    kernels: Kernels, changed: dict[str, int | None], said: str
) -> None:
    weights, attributes, _ = quantized(20, 40, 4, 32)
    wrong = {name: value for name, value in (attributes | changed).items() if value is not None}
    with pytest.raises(Exception, match=said):
        open_product(kernels, weights, wrong)


def test_its_output_is_that_of_matmulnbits_up_to_rounding(kernels: Kernels) -> None:
    weight = np.random.default_rng(0).normal(size=(48, 256)).astype(np.float32)
    packed, scales = quantize_blocks(weight, 4, 128)
    scales = scales.astype(np.float16).astype(np.float32)
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["rows", 256]))
    constants = [
        ir.Value(name=name, const_value=ir.Tensor(array, name=name))
        for name, array in (("levels", packed), ("scales", scales))
    ]
    attributes = {"K": 256, "N": 48, "bits": 4, "block_size": 128}
    node = ir.node(
        "MatMulNBits", [x, *constants], attributes | {"accuracy_level": 4}, domain="com.microsoft"
    )
    node.outputs[0].name, node.outputs[0].dtype = "y", ir.DataType.FLOAT
    graph = ir.Graph(
        [x], node.outputs, nodes=[node], initializers=constants,
        opset_imports={"": 17, "com.microsoft": 1}, name="one",
    )  # fmt: skip
    theirs = ort.InferenceSession(ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString())
    rows = np.random.default_rng(1).standard_normal((5, 256)).astype(np.float32)
    ours = run(open_product(kernels, tiled(packed, scales, 4), attributes), rows)
    expected = run(theirs, rows)
    np.testing.assert_allclose(ours, expected, atol=2e-3 * np.abs(expected).max())
