"""The portable clean-ups, in one ordered list."""

import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
    ShapeInferencePass,
    TopologicalSortPass,
)

from export.passes.fold_constants import FoldConstants
from export.passes.lower_opset import LowerOpset
from export.passes.name_nodes import NameNodes
from export.passes.repeat_layers import TRACED_LAYERS, RepeatLayers
from runtime.bundle.manifest import ModelConfig

__all__ = ["portable_passes"]


def portable_passes(config: ModelConfig) -> ir.passes.Sequential:
    """What every traced graph goes through."""
    return ir.passes.Sequential(
        FoldConstants(),
        IdentityEliminationPass(),
        CommonSubexpressionEliminationPass(),
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        LowerOpset(),
        RemoveUnusedNodesPass(),
        RemoveUnusedOpsetsPass(),
        TopologicalSortPass(),
        ShapeInferencePass(),
        NameNodes(min(config.num_hidden_layers, TRACED_LAYERS)),
        RepeatLayers(config.num_hidden_layers),
    )
