"""The bundle that many_requests.py measures, and a graph of nothing but its matrix products."""

from pathlib import Path
from shutil import rmtree
from subprocess import DEVNULL, run

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from seven_b import write_config

from runtime.bundle.reader import Bundle, load_bundle
from runtime.kernels.layout import OPERATOR
from runtime.sessions.onnx.own_kernels import register_kernels
from runtime.threads import usable_threads

__all__ = ["Products", "make_bundle"]

PRODUCTS = ("MatMulNBits", OPERATOR)
BATCH_SIZES = (1, 4, 8)
PROFILE = """name = "many"
description = "requests beside each other"
target = "cpu"
weights = "int4"
block_size = 128
slots = 10

graphs = [
  {{ phase = "prefill", batch_size = 1, seq_len = 128, cache_len = {cache_len} }},
  {{ phase = "score", batch_size = 1, seq_len = 128, cache_len = {cache_len} }},
{decode}]
"""
DECODE = (
    '  {{ phase = "decode", batch_size = {batch_size}, seq_len = 1, cache_len = {cache_len} }},\n'
)


def make_bundle(directory: Path, layers: int, cache_len: int) -> Bundle:
    """Exports random weights of the 7B's shape and compiles them; what is there is kept."""
    compiled = directory / f"{layers}-layers-{cache_len}"
    if not compiled.exists():
        directory.mkdir(parents=True, exist_ok=True)
        write_config(directory / "model", layers)
        decode = [DECODE.format(batch_size=size, cache_len=cache_len) for size in BATCH_SIZES]
        profile = directory / "many.toml"
        profile.write_text(PROFILE.format(cache_len=cache_len, decode="".join(decode)))
        exported = directory / "exported"
        rmtree(exported, ignore_errors=True)
        options = ("--load-format", "dummy", "--profile", str(profile))
        _toolchain("export", directory / "model", "-o", exported, *options)
        _toolchain("compile", exported, "-o", compiled)
    return load_bundle(compiled)


def _toolchain(*arguments: str | Path) -> None:
    run(["toolchain", *map(str, arguments)], check=True, stdout=DEVNULL)


class Products:
    """All matrix products of a bundle's decoder by themselves, each on rows of its own.

    Args:
        bundle: compiled for cpu with quantized weights.
    """

    def __init__(self, bundle: Bundle) -> None:
        path = bundle.file(bundle.manifest.graphs[0].path)
        model = ir.load(path)
        graph = model.graph
        products = [node for node in graph if node.op_type in PRODUCTS]
        graph.inputs.clear()
        graph.outputs.clear()
        self._widths: dict[str, int] = {}
        for i, node in enumerate(products):
            name, width = f"rows.{i}", node.attributes["K"].as_int()
            kind, shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["rows", width])
            rows = ir.Value(name=name, type=kind, shape=shape)
            node.replace_input_with(0, rows)
            graph.inputs.append(rows)
            graph.outputs.append(node.outputs[0])
            self._widths[name] = width
        graph.remove([node for node in graph if node.op_type not in PRODUCTS], safe=False)
        used = {value.name for node in products for value in node.inputs if value is not None}
        for name in set(graph.initializers) - used:
            del graph.initializers[name]
        file = path.with_name("products.onnx")
        ir.save(model, file)
        options = ort.SessionOptions()
        options.intra_op_num_threads = usable_threads()
        if bundle.manifest.kernels is not None:
            register_kernels(options)
        self._session = ort.InferenceSession(str(file), options)
        file.unlink()
        self._rows: dict[int, dict[str, NDArray[np.float32]]] = {}

    def run(self, num_rows: int) -> None:
        """Computes every product with so many rows."""
        if num_rows not in self._rows:
            rng = np.random.default_rng(num_rows)
            self._rows[num_rows] = {
                name: rng.standard_normal((num_rows, width), np.float32)
                for name, width in self._widths.items()
            }
        self._session.run(None, self._rows[num_rows])
