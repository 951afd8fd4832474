"""Makes the weights of a graph input by input, each rounded by what it is given on some texts.

What a layer is given is computed with the weights before it as they were rounded, so that it makes
up for their errors too. In memory are the residual streams of the texts, the second moments of one
input, and the rows that are being rounded.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from profiles import Fineness
from runtime.bundle.hashing_writer import WeightJob
from runtime.bundle.node_names import split_layer
from runtime.bundle.writer import BundleWriter
from runtime.kernels.layout import OPERATOR
from runtime.threads import usable_threads
from toolchain.targets.cpu.activations import Activations
from toolchain.targets.cpu.gptq import Factor, factorise, quantize_rows
from toolchain.targets.cpu.layer_parts import LayerParts
from toolchain.targets.cpu.quantize_weights import QuantizedRows
from toolchain.targets.weights import row_blocks

__all__ = ["CalibratedWeights"]

PRODUCTS = ("MatMulNBits", OPERATOR)
ELEMENTS = 1 << 20  # of a weight that one thread rounds at a time


@dataclass(frozen=True, slots=True)
class ProductInput:
    """What some products take: its name, how many columns share a scale, their weights."""

    value: str
    block_size: int
    weights: list[str] = field(default_factory=list)


class CalibratedWeights:
    """A Rounding, and the order in which it can make the weights of a graph.

    Args:
        sequences: token ids of the texts.
    """

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        self._sequences = sequences
        self._threads = ThreadPoolExecutor(usable_threads())  # no result depends on their number
        self._factor: Factor | None = None  # of the input whose weights are being made

    def __call__(self, weight: ir.ExternalTensor, fineness: Fineness) -> QuantizedRows:
        """See Rounding."""
        factor = self._factor
        assert factor is not None, "weights are made by `write`"

        def rounded(rows: NDArray[np.generic]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
            return quantize_rows(rows, factor, fineness.bits)

        return self._threads.map(rounded, row_blocks(weight, ELEMENTS))

    def write(self, parts: LayerParts, jobs: Mapping[str, WeightJob], writer: BundleWriter) -> None:
        """Writes all weights of a graph that was lowered with this rounding.

        Args:
            parts: its layers.
            jobs: what makes each of its weights.
            writer: of the bundle.
        """
        layers = _inputs(parts.model.graph)
        rounded = {name for inputs in layers for each in inputs for name in each.weights}
        _make([job for job in jobs.values() if not rounded.intersection(job.names)], writer)
        activations = Activations(parts, self._sequences, self._threads)
        for i, inputs in enumerate(layers):
            writer.progress.step(f"layer {i + 1}/{len(layers)}: rounding by what it is given")
            for each in inputs:
                moments = activations.second_moments(i, each.value)
                self._factor = factorise(
                    moments, activations.num_rows, each.block_size, self._threads
                )
                _make([jobs[name] for name in each.weights], writer)


def _inputs(graph: ir.Graph) -> list[list[ProductInput]]:
    """What the products of each layer take, in order."""
    layers: list[dict[str, ProductInput]] = []
    for node in graph:
        layer, _ = split_layer(str(node.name))
        if node.op_type in PRODUCTS and layer is not None:
            if layer == len(layers):
                layers.append({})
            value, weight = (str(each.name) for each in node.inputs[:2] if each is not None)
            new = ProductInput(value, node.attributes["block_size"].as_int())
            layers[layer].setdefault(value, new).weights.append(weight)
    return [list(inputs.values()) for inputs in layers]


def _make(jobs: Iterable[WeightJob], writer: BundleWriter) -> None:
    """Makes weights, each job once, and waits for them."""
    writer.files.start_weights(list({job.names: job for job in jobs}.values()))
    writer.files.wait()
