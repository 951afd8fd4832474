"""The portable clean-ups, in one ordered list."""

from collections.abc import Sequence

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

from export.errors import TraceError
from export.expect import NodesError
from export.passes.fold_constants import FoldConstants
from export.passes.lower_opset import LowerOpset
from export.passes.name_nodes import NameNodes
from export.passes.repeat_layers import TRACED_LAYERS, RepeatLayers
from runtime.bundle.manifest import ModelConfig

__all__ = ["portable_passes", "run_passes"]


def portable_passes(config: ModelConfig) -> tuple[ir.passes.PassBase, ...]:
    """What every traced graph goes through."""
    return (
        FoldConstants(),
        IdentityEliminationPass(),
        CommonSubexpressionEliminationPass(),
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        LowerOpset(),
        RemoveUnusedNodesPass(),
        RemoveUnusedOpsetsPass(),
        TopologicalSortPass(),
        ShapeInferencePass(),
        NameNodes(min(config.num_hidden_layers, TRACED_LAYERS), config.qk_norm),
        RepeatLayers(config.num_hidden_layers),
    )


def run_passes(model: ir.Model, passes: Sequence[ir.passes.PassBase]) -> None:
    """Runs each pass on a traced graph, in place.

    Raises:
        TraceError: it has not the nodes that a pass looks for.
    """
    for each in passes:
        try:
            each(model)
        except NodesError as error:
            raise TraceError(
                f"the traced graph has not the nodes that {type(each).__name__} looks for",
                got=error.got,
                allowed=error.allowed,
                next_step="install the versions that alpaca2-toolchain[export] asks for",
            ) from error
