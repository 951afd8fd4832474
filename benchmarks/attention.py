"""Our attention over an int8 cache beside ONNX Runtime's, of one layer, in one process.

ONNX Runtime's GroupQueryAttention runs with an int8 cache, as ours, and with one of float32. The
kernels take turns, round by round; what counts is the median of the rounds' ratios. Absolute times
are those of a machine that may do other things.

Usage: attention.py [--heads 32] [--kv-heads 32] [--head-dim 128] [--threads 2] [--rounds 5]
                    [--cases 1,511 512,1536 ...] [--sets avx512_vnni avx2]

A case is new rows, and rows before them.
"""

import argparse
import time
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.kernels.layout import ATTENTION, DOMAIN
from runtime.kernels.library import Kernels
from toolchain.host.machine import cpu_name

CASES = ("1,511", "1,2047", "1,16383", "5,2043", "512,0", "512,1536", "512,15872")
THEIRS, FLOAT = "int8 cache", "float32 cache"  # of ONNX Runtime
FLOATS, BYTES = ir.DataType.FLOAT, ir.DataType.INT8


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Heads of queries, of keys and values, their channels, and the rows of the cache."""

    heads: int
    kv_heads: int
    head_dim: int
    rows: int

    @property
    def width(self) -> int:
        """Of query, key and value beside each other."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim


def make_graph(layer: Layer, kind: str) -> bytes:
    """One node: ours for an instruction set, ONNX Runtime's for the others."""
    theirs, cached = kind in (THEIRS, FLOAT), FLOATS if kind == FLOAT else BYTES
    cache = (1, layer.kv_heads, layer.rows, layer.head_dim)
    inputs = {
        name: ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        for name, dtype, shape in (
            ("qkv", FLOATS, (1, "S", layer.width)),
            ("past_key", cached, cache),
            ("past_value", cached, cache),
            ("last", ir.DataType.INT32, (1,)),
            ("total", ir.DataType.INT32, (1,)),
            ("cos", FLOATS, (layer.rows, layer.head_dim // 2)),
            ("sin", FLOATS, (layer.rows, layer.head_dim // 2)),
            ("key_scale", FLOATS, (layer.kv_heads, layer.head_dim)),
            ("value_scale", FLOATS, (layer.kv_heads, layer.head_dim)),
        )
    }
    qkv, past_key, past_value, last, total, cos, sin, *scales = inputs.values()
    attributes: dict[str, Any] = {"num_heads": layer.heads, "kv_num_heads": layer.kv_heads}
    taken = [qkv, None, None, past_key, past_value, last, cos, sin, *scales]
    if theirs:
        taken.insert(6, total)
        attributes["do_rotary"] = 1
        del taken[9:]
    if kind == THEIRS:
        taken += [None, None, None, *scales]
        attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
        attributes["kv_cache_bit_width"] = 8
    operator, domain = ("GroupQueryAttention", "com.microsoft") if theirs else (ATTENTION, DOMAIN)
    node = ir.node(operator, taken, attributes, domain=domain, num_outputs=3)
    for output, name, like in zip(
        node.outputs, ("y", "key", "value"), (qkv, past_key, past_value), strict=True
    ):
        output.name, output.type = name, like.type
    graph = ir.Graph(
        [value for value in inputs.values() if value in taken],
        node.outputs,
        nodes=[node],
        opset_imports={"": 20, "com.microsoft": 1, DOMAIN: 1},
        name="attention",
    )
    return bytes(ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString())


class Attention:
    """A session over one node, with random rows in its cache."""

    def __init__(self, layer: Layer, kind: str, threads: int, kernels: Kernels) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(str(kernels.path))
        self.layer, graph = layer, make_graph(layer, kind)
        self.session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(0)
        shape = (2, 1, layer.kv_heads, layer.rows, layer.head_dim)
        self.cache = rng.integers(-100, 101, shape, np.int8)
        if kind == FLOAT:
            self.cache = self.cache.astype(np.float32) * np.float32(0.02)

    def bind(self, new: int, before: int) -> ort.IOBinding:
        """The arrays of a case; the cache is written where it is read."""
        layer, rng = self.layer, np.random.default_rng(1)
        angles = np.arange(layer.rows)[:, None] / np.geomspace(1, 1e4, layer.head_dim // 2)
        scale = np.full((layer.kv_heads, layer.head_dim), 0.02, np.float32)
        given: dict[str, NDArray[Any]] = {
            "qkv": rng.standard_normal((1, new, layer.width)).astype(np.float32),
            "past_key": self.cache[0],
            "past_value": self.cache[1],
            "last": np.array([before + new - 1], np.int32),
            "total": np.array([before + new], np.int32),
            "cos": np.cos(angles).astype(np.float32),
            "sin": np.sin(angles).astype(np.float32),
            "key_scale": scale,
            "value_scale": scale,
        }
        y = np.empty((1, new, layer.heads * layer.head_dim), np.float32)
        binding = self.session.io_binding()
        self.kept = [given, y]  # as long as the binding, which knows addresses alone
        for name in (wanted.name for wanted in self.session.get_inputs()):
            array = given[name]
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in (("y", y), ("key", self.cache[0]), ("value", self.cache[1])):
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return binding


def measure(
    attentions: dict[str, Attention], new: int, before: int, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of every kind, turn by turn; a first round does not count."""
    bound = {kind: each.bind(new, before) for kind, each in attentions.items()}
    times: dict[str, list[float]] = {kind: [] for kind in attentions}
    for _ in range(rounds + 1):
        for kind, each in attentions.items():
            each.session.run_with_iobinding(bound[kind])  # the caches have what comes first
            started = time.perf_counter()
            each.session.run_with_iobinding(bound[kind])
            times[kind].append((time.perf_counter() - started) * 1e3)
    return {kind: each[1:] for kind, each in times.items()}


def main() -> None:
    """Prints a table in Markdown, a row for each case and instruction set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=32)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--sets", nargs="+")
    arguments = parser.parse_args()
    kernels = Kernels()
    cases = [tuple(map(int, case.split(","))) for case in arguments.cases]
    layer = Layer(
        heads=arguments.heads,
        kv_heads=arguments.kv_heads,
        head_dim=arguments.head_dim,
        rows=max(map(sum, cases)) + 1,
    )
    sets = arguments.sets or kernels.instruction_sets[:-1]
    attentions = {}
    for kind in (THEIRS, FLOAT, *sets):
        kernels.select(kind if kind in sets else None)
        attentions[kind] = Attention(layer, kind, arguments.threads, kernels)
    print(f"{cpu_name()}, {arguments.threads} threads, ONNX Runtime {ort.__version__}, ", end="")
    print(f"{date.today().isoformat()}, {layer}\n")
    print("| new rows | rows before | by | ours, ms | ONNX Runtime, int8 cache / ours |", end="")
    print(" float32 cache / ours |\n|--:|--:|---|--:|--:|--:|")
    for new, before in cases:
        times = measure(attentions, new, before, arguments.rounds)
        for name in sets:
            ratios = [
                median(theirs / ours for theirs, ours in zip(times[kind], times[name], strict=True))
                for kind in (THEIRS, FLOAT)
            ]
            print(f"| {new:,} | {before:,} | {name} | {median(times[name]):.2f} |", end="")
            print(f" {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
