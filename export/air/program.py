"""(ModelConfig, Graph) -> the program that a chip's kernels fit, and its inputs."""

from torch.fx import GraphModule

from export.air.passes import chip_passes
from export.air.weights import Quantisation, chip_weights
from export.forms import CHIP
from export.graphs import weight_inputs
from export.program import trace_program
from runtime.bundle.manifest import Graph, ModelConfig, TensorSpec

__all__ = ["chip_program"]


def chip_program(
    config: ModelConfig, graph: Graph, quantisation: Quantisation | None
) -> tuple[list[TensorSpec], GraphModule]:
    """The program of a graph of chip_graph, whose inputs are followed by the weights."""
    weights = chip_weights(config, quantisation)
    inputs = (*graph.inputs, *weight_inputs(config, "float16"))
    traced = graph.model_copy(update={"inputs": inputs})
    module = trace_program(config, traced, CHIP).graph_module
    names = chip_passes(module, [spec.name for spec in inputs], weights)
    specs = {spec.name: spec for spec in inputs}
    specs |= {file.name: file for weight in weights for file in weight.files}
    return [specs[name] for name in names], module
