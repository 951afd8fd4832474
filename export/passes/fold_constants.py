"""Folds shapes and scalars that torch.onnx emits as chains of Constant nodes."""

import onnx_ir as ir
from onnxscript.optimizer import fold_constants

__all__ = ["FoldConstants"]


class FoldConstants(ir.passes.InPlacePass):
    """Evaluates nodes whose inputs are all constants, except those that read a weight.

    A weight must stay the bytes of the checkpoint: folding its Transpose would load it.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Folds in place."""
        weights = set(model.graph.initializers.values())

        def should_fold(node: ir.Node) -> bool | None:
            return False if any(value in weights for value in node.inputs) else None

        result = fold_constants(model, should_fold=should_fold)
        return ir.passes.PassResult(model, modified=result.modified)
