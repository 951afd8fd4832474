"""RMSNorm as one kernel."""

import onnx_ir as ir

from export.expect import expect
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.node_names import node_name, norms
from toolchain.targets.norms import Norm, find_norms

__all__ = ["FuseNorms"]


class FuseNorms(ir.passes.InPlacePass):
    """Mul, ReduceMean, Add, Sqrt, Reciprocal, Mul, Mul -> SimplifiedLayerNormalization.

    ONNX Runtime has this operator in the default domain, though no ONNX standard has it.
    Expects 2 L + 1 norms.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes in place."""
        expected = norms(self.config.num_hidden_layers, self.config.qk_norm)
        found = expect(find_norms(model.graph), expected)
        for module, norm in found.items():
            _fuse(model.graph, module, norm)
        return ir.passes.PassResult(model, modified=True)


def _fuse(graph: ir.Graph, module: str, norm: Norm) -> None:
    fused = ir.node(
        "SimplifiedLayerNormalization",
        [norm.x, norm.gamma],
        {"axis": -1, "epsilon": norm.epsilon, "stash_type": 1},
        name=node_name(module, "RMSNorm"),
    )
    last = norm.last
    ir.convenience.replace_nodes_and_values(
        graph, last, [last], [fused], last.outputs, fused.outputs
    )
