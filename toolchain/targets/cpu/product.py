"""Matrix products in float32 with the same bits on every number of cores.

numpy's BLAS splits a product among its threads, and how it sums may depend on their number. Here
one thread of ONNX Runtime computes each; several threads of ours may call it at once.
"""

from concurrent.futures import Executor
from functools import cache

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from runtime.sessions.onnx.quiet_ort import ort

__all__ = ["STRIP", "Matrix", "product", "tall_product"]

Matrix = NDArray[np.float32]

STRIP = 512  # rows of a large product that one thread computes


def product(
    a: Matrix, b: Matrix, *, transpose_a: bool = False, transpose_b: bool = False
) -> Matrix:
    """The product of two matrices, or of their transposes."""
    session = _session(transpose_a, transpose_b)
    feeds = {"a": np.ascontiguousarray(a), "b": np.ascontiguousarray(b)}
    result: Matrix = session.run(None, feeds)[0]
    return result


def tall_product(a: Matrix, b: Matrix, threads: Executor) -> Matrix:
    """The product of a and b's transpose, strip by strip of a on all threads."""
    strips = [a[start : start + STRIP] for start in range(0, len(a), STRIP)]
    return np.concatenate(
        list(threads.map(lambda strip: product(strip, b, transpose_b=True), strips))
    )


@cache
def _session(transpose_a: bool, transpose_b: bool) -> ort.InferenceSession:
    matrix = ir.TensorType(ir.DataType.FLOAT)
    inputs = [ir.Value(name=name, type=matrix, shape=ir.Shape([None, None])) for name in ("a", "b")]
    gemm = ir.node("Gemm", inputs, {"transA": int(transpose_a), "transB": int(transpose_b)})
    gemm.outputs[0].name, gemm.outputs[0].type = "y", matrix
    graph = ir.Graph(inputs, gemm.outputs, nodes=[gemm], opset_imports={"": 17}, name="product")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString()
    return ort.InferenceSession(model, options)
