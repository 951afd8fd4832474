"""Names every node by the module that made it, so that later passes and people can find it."""

import ast
from collections import Counter

import onnx_ir as ir

from export.expect import expect, find
from runtime.bundle import node_names as names
from runtime.bundle.tensor_names import hidden_name

__all__ = ["NameNodes"]

SCOPES_KEY = "pkg.torch.onnx.name_scopes"


class NameNodes(ir.passes.InPlacePass):
    """Gives stable names from torch's module paths, then drops torch's metadata.

    1. A node is {module}/{OpType}, and {OpType}_1 and so on for the next of its kind.
    2. A value is named for its node, unless it is a graph input or output.
    3. The residual stream after layer i is hidden.{i}.
    4. A constant is named for its first reader; weights keep their parameter names.
    5. What later passes look for is there: the embedding, 7 L + 1 products with weights and three
       nodes of each of 2 L + 1 norms.
    """

    def __init__(self, num_layers: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.num_layers, self.qk_norm = num_layers, qk_norm

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Renames in place."""
        seen: Counter[tuple[str, str]] = Counter()
        kept = set(model.graph.inputs) | set(model.graph.outputs)
        last_in_module: dict[str, ir.Value] = {}
        for value in model.graph.inputs:
            value.metadata_props.clear()
        for node in model.graph:
            module = _module(node)
            kind = (module, node.op_type)
            node.name = names.node_name(*kind, seen[kind])
            seen[kind] += 1
            for value in set(node.outputs) - kept:
                value.name = node.name
            last_in_module[module] = node.outputs[0]
            _drop_metadata(node)
            _name_constants(node)
        self._name_hidden(last_in_module)
        find(model.graph, _looked_for(self.num_layers, self.qk_norm))
        model.graph.name = "decoder"
        model.metadata_props.clear()
        model.graph.metadata_props.clear()
        return ir.passes.PassResult(model, modified=True)

    def _name_hidden(self, last_in_module: dict[str, ir.Value]) -> None:
        layers = [names.layer(i) for i in range(self.num_layers)]
        found = {name: value for name, value in last_in_module.items() if name in layers}
        expect(found, layers)
        for i, name in enumerate(layers):
            found[name].name = hidden_name(i)


def _looked_for(num_layers: int, qk_norm: bool) -> list[str]:
    norms = names.norms(num_layers, qk_norm)
    of_norms = (part for norm in norms for part in names.norm_parts(norm))
    return [names.EMBEDDING, *names.linears(num_layers), *of_norms]


def _module(node: ir.Node) -> str:
    """Path of the innermost module, for example layers.0.self_attn.q_proj."""
    # torch.onnx writes the list as a Python literal.
    scopes: list[str] = ast.literal_eval(node.metadata_props.get(SCOPES_KEY, "[]"))
    modules = scopes[1:-1]  # the first is the root, the last the operation
    return modules[-1].removeprefix("decoder").removeprefix(".") if modules else ""


def _name_constants(node: ir.Node) -> None:
    for position, value in enumerate(node.inputs):
        if value is None or isinstance(value.const_value, ir.ExternalTensor):
            continue
        if value.is_initializer() and next(iter(value.uses())).node is node:
            value.name = f"{node.name}.{position}"


def _drop_metadata(node: ir.Node) -> None:
    node.metadata_props.clear()
    node.doc_string = None
    for value in node.outputs:
        value.metadata_props.clear()
        value.doc_string = None
