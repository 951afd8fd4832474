"""Our own kernels beside ONNX Runtime's MatMulNBits, product by product, in one process.

Each graph holds one product several times with weights of its own, more than the caches hold, as
the layers of a model follow each other. The kernels take turns, round by round; what counts is the
median of the rounds' ratios. Absolute times are those of a machine that may do other things.

Usage: kernels.py [--shapes 4096x4096 ...] [--rows 1 4 8 128 512] [--threads 2 1] [--bits 4]
                  [--block-size 128] [--rounds 7] [--sets avx512_vnni avx2] [--json FILE]
                  [--cpu-time]

--cpu-time takes the time of this thread on a core: with one thread, on a machine that others use.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.kernels.layout import DOMAIN, KERNELS_VERSION, OPERATOR
from runtime.kernels.library import Kernels
from toolchain.host.machine import cpu_name
from toolchain.targets.cpu.tiles import tiled

SHAPES = ("4096x4096", "12288x4096", "11008x4096", "4096x11008")  # rows x columns of the 7B's
BEYOND_CACHES = 256e6  # bytes of weights in a graph
MANY_ROWS = 32  # from here on computing takes longer than reading: fewer weights will do

Clock = Callable[[], float]
Arrays = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """y = x W^T with quantised weights (num_rows, num_columns)."""

    num_rows: int
    num_columns: int
    bits: int
    block_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the result."""

    shape: str
    bits: int
    block_size: int
    threads: int
    rows: int
    instruction_set: str
    ratio: float  # time of MatMulNBits / time of ours
    onnxruntime_ms: float
    ours_ms: float
    largest_difference: float  # of an output, as part of the largest output


def make_graph(product: Product, ours: bool, copies: int, directory: Path) -> Path:
    """The graph with its weights in a file beside it."""
    rng = np.random.default_rng(0)
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["rows", None]))
    nodes, weights = [], []
    for i in range(copies):
        num_blocks = product.num_columns // product.block_size
        width = product.block_size * product.bits // 8
        levels = rng.integers(0, 256, (product.num_rows, num_blocks, width), np.uint8)
        scales = rng.uniform(0, 0.01, levels.shape[:2]).astype(np.float16).astype(np.float32)
        arrays: Arrays = tiled(levels, scales, product.bits) if ours else (levels, scales)
        inputs = [
            ir.Value(name=f"{name}.{i}", const_value=ir.Tensor(array, name=f"{name}.{i}"))
            for name, array in zip(("levels", "scales"), arrays, strict=True)
        ]
        attributes = {
            "N": product.num_rows,
            "K": product.num_columns,
            "bits": product.bits,
            "block_size": product.block_size,
        }
        if not ours:
            attributes["accuracy_level"] = 4
        operator, domain = (OPERATOR, DOMAIN) if ours else ("MatMulNBits", "com.microsoft")
        node = ir.node(operator, [x, *inputs], attributes, domain=domain)
        node.outputs[0].name = f"y.{i}"
        node.outputs[0].type = x.type
        nodes.append(node)
        weights += inputs
    graph = ir.Graph(
        [x],
        [node.outputs[0] for node in nodes],
        nodes=nodes,
        initializers=weights,
        opset_imports={"": 17, "com.microsoft": 1, DOMAIN: 1},
        name="products",
    )
    path = directory / f"{'ours' if ours else 'onnxruntime'}.onnx"
    ir.save(ir.Model(graph, ir_version=8), path, external_data=f"{path.stem}.bin")
    return path


def open_graph(path: Path, threads: int, kernels: Kernels) -> ort.InferenceSession:
    """A session with both kinds of kernels."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(kernels.path))
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def timed(
    session: ort.InferenceSession, x: NDArray[np.float32], clock: Clock
) -> tuple[float, NDArray[np.float32]]:
    """Seconds of a run, and its first output."""
    started = clock()
    outputs = session.run(None, {"x": x})
    return clock() - started, outputs[0]


def measure(
    product: Product, threads: int, rows: int, arguments: argparse.Namespace, kernels: Kernels
) -> list[Row]:
    """Every instruction set against MatMulNBits with so many rows of x."""
    num_bytes = product.num_rows * product.num_columns * product.bits / 8
    copies = 2 if rows >= MANY_ROWS else max(2, round(BEYOND_CACHES / num_bytes))
    clock = time.thread_time if arguments.cpu_time else time.perf_counter
    x = np.random.default_rng(1).standard_normal((rows, product.num_columns)).astype(np.float32)
    with TemporaryDirectory() as directory:
        theirs = open_graph(make_graph(product, False, copies, Path(directory)), threads, kernels)
        path = make_graph(product, True, copies, Path(directory))
        sessions = {}
        for name in arguments.sets or kernels.instruction_sets[:-1]:
            kernels.select(name)
            sessions[name] = open_graph(path, threads, kernels)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in sessions}
        differences = {}
        for _ in range(arguments.rounds + 1):
            for name, session in sessions.items():
                reference, expected = timed(theirs, x, clock)
                seconds, found = timed(session, x, clock)
                times[name].append((reference, seconds))
                differences[name] = np.abs(found - expected).max() / np.abs(expected).max()
    rows_of_table = []
    for name, pairs in times.items():
        pairs = pairs[1:]  # the first round maps the weights
        rows_of_table.append(
            Row(
                shape=f"{product.num_rows}x{product.num_columns}",
                bits=product.bits,
                block_size=product.block_size,
                threads=threads,
                rows=rows,
                instruction_set=name,
                ratio=round(median(theirs / ours for theirs, ours in pairs), 2),
                onnxruntime_ms=round(median(theirs for theirs, _ in pairs) / copies * 1e3, 3),
                ours_ms=round(median(ours for _, ours in pairs) / copies * 1e3, 3),
                largest_difference=float(f"{differences[name]:.1e}"),
            )
        )
    return rows_of_table


def main() -> None:
    """Prints a line per product, and writes all of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 8, 128, 512])
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    kernels = Kernels()
    setup = {
        "cpu": cpu_name(),
        "instruction_sets": kernels.instruction_sets,
        "onnxruntime": ort.__version__,
        "kernels": KERNELS_VERSION,
        "date": date.today().isoformat(),
        "clock": "cpu" if arguments.cpu_time else "wall",
    }
    print(setup)
    rows: list[Row] = []
    for shape in arguments.shapes:
        num_rows, num_columns = map(int, shape.split("x"))
        product = Product(
            num_rows=num_rows,
            num_columns=num_columns,
            bits=arguments.bits,
            block_size=arguments.block_size,
        )
        for threads in arguments.threads:
            for count in arguments.rows:
                for row in measure(product, threads, count, arguments, kernels):
                    print(row, flush=True)
                    rows.append(row)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({**setup, "results": [asdict(row) for row in rows]}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
