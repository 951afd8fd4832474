"""Opset 18 -> 17, the highest that every ATC with opset-per-operator tables takes safely."""

import onnx
import onnx_ir as ir

__all__ = ["PORTABLE_OPSET", "LowerOpset"]

PORTABLE_OPSET = 17


class LowerOpset(ir.passes.InPlacePass):
    """Changes what differs between the two opsets and refuses the rest.

    1. ReduceMean: axes move from an input to an attribute.
    2. Reshape: allowzero goes; no dimension here is zero, and the plain form is older than 14.
    3. Any other operator must be in both with the same schema.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Lowers in place."""
        traced = model.opset_imports[""]
        for node in model.graph:
            if node.op_type == "ReduceMean":
                _axes_to_attribute(node)
                continue
            if node.op_type == "Reshape":
                node.attributes.pop("allowzero", None)
            if not _same_schema(node.op_type, traced):
                raise ir.passes.PassError(
                    f"{node.op_type} ({node.name}) differs between opset {PORTABLE_OPSET} and "
                    f"{traced}: write the layer without it or add a rule to LowerOpset"
                )
        model.opset_imports[""] = PORTABLE_OPSET
        model.ir_version = 8  # the IR version that belongs to opset 17
        return ir.passes.PassResult(model, modified=True)


def _axes_to_attribute(node: ir.Node) -> None:
    axes = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] else None
    assert axes is not None, "axes are constants after folding"
    node.attributes.add(ir.AttrInt64s("axes", [int(axis) for axis in axes.numpy()]))
    node.attributes.pop("noop_with_empty_axes", None)
    node.resize_inputs(1)


def _same_schema(op_type: str, traced: int) -> bool:
    if not onnx.defs.has(op_type, PORTABLE_OPSET, ""):
        return False
    versions = [
        onnx.defs.get_schema(op_type, version).since_version for version in (PORTABLE_OPSET, traced)
    ]
    return versions[0] == versions[1]
