"""RMSNorm as one kernel."""

import onnx_ir as ir

__all__ = ["FuseNorms"]


class FuseNorms(ir.passes.InPlacePass):
    """Mul, ReduceMean, Add, Sqrt, Reciprocal, Mul, Mul -> SimplifiedLayerNormalization.

    ONNX Runtime has this operator in the default domain, though no ONNX standard has it.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites in place."""
        by_name = {node.name: node for node in model.graph}
        scopes = [
            str(name).removesuffix("/ReduceMean")
            for name in by_name
            if str(name).endswith("/ReduceMean")
        ]
        for scope in scopes:
            _fuse(model.graph, scope, by_name)
        return ir.passes.PassResult(model, modified=bool(scopes))


def _fuse(graph: ir.Graph, scope: str, by_name: dict[str | None, ir.Node]) -> None:
    square, added, last = (by_name[f"{scope}/{name}"] for name in ("Mul", "Add", "Mul_2"))
    gamma = next(value for value in last.inputs if value is not None and value.is_initializer())
    [epsilon] = [value.const_value for value in added.inputs if value and value.is_initializer()]
    assert epsilon is not None, "an initializer has a value"
    fused = ir.node(
        "SimplifiedLayerNormalization",
        [square.inputs[0], gamma],
        {"axis": -1, "epsilon": float(epsilon.numpy()), "stash_type": 1},
        name=f"{scope}/RMSNorm",
    )
    ir.convenience.replace_nodes_and_values(
        graph, last, [last], [fused], last.outputs, fused.outputs
    )
