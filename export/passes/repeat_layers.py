"""Stamps out the layers after the second: they differ from it in names and weights only."""

import onnx_ir as ir

from export.expect import find
from runtime.bundle import node_names
from runtime.bundle import tensor_names as names
from runtime.bundle.reader import WEIGHTS_DIR

__all__ = ["TRACED_LAYERS", "RepeatLayers"]

TRACED_LAYERS = 2  # the first owns what all layers share; the second is the pattern
PATTERN = TRACED_LAYERS - 1
NUMBERED = (names.past_key, names.past_value, names.new_key, names.new_value, names.hidden_name)


class RepeatLayers(ir.passes.InPlacePass):
    """Copies layer 1 as layers 2, 3, ... up to num_layers; runs after NameNodes.

    1. What belongs to layer 1 (nodes, weights, constants, cache inputs, new rows) is copied
       under the name that it would have if layer i had been traced.
    2. hidden.0, which layer 1 reads, becomes hidden.{i - 1}; whatever else it reads is shared.
    3. What reads hidden.1 after layer 1 reads the hidden state of the last layer.

    Expects the seven products of layer 1 with weights, hidden.0 and hidden.1.
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Extends the graph in place."""
        if self.num_layers <= TRACED_LAYERS:
            return ir.passes.PassResult(model, modified=False)
        graph = model.graph
        pattern = [node for node in graph if _renamed(node.name or "", PATTERN) is not None]
        find(pattern, node_names.layer_linears(PATTERN))
        values = (value for node in graph for value in node.outputs)
        hidden = [names.hidden_name(PATTERN - 1), names.hidden_name(PATTERN)]
        found = find(values, hidden)
        before, last = (found[name] for name in hidden)
        readers = [use for use in last.uses() if use.node not in pattern]
        end, previous = pattern[-1], last
        for i in range(TRACED_LAYERS, self.num_layers):
            copies = _copy(graph, pattern, i, {before: previous})
            graph.insert_after(end, copies)
            end, previous = copies[-1], copies[-1].outputs[0]
        for node, position in readers:
            node.replace_input_with(position, previous)
        return ir.passes.PassResult(model, modified=True)


def _renamed(name: str, layer: int) -> str | None:
    """The name of a thing of layer 1 in another layer; None for what is not of layer 1."""
    for numbered in NUMBERED:
        if name == numbered(PATTERN):
            return numbered(layer)
    prefix = node_names.layer(PATTERN)
    if name.startswith((f"{prefix}.", f"{prefix}/")):
        return f"{node_names.layer(layer)}{name.removeprefix(prefix)}"
    return None


def _copy(
    graph: ir.Graph, pattern: list[ir.Node], layer: int, copied: dict[ir.Value, ir.Value]
) -> list[ir.Node]:
    """The nodes of layer 1 again for another layer; `copied` holds what is replaced already."""
    nodes = []
    for node in pattern:
        inputs = [_copied_input(graph, value, layer, copied) for value in node.inputs]
        nodes.append(
            ir.Node(
                node.domain,
                node.op_type,
                inputs,
                list(node.attributes.values()),
                num_outputs=len(node.outputs),
                name=_renamed(node.name or "", layer),
            )
        )
        for old, new in zip(node.outputs, nodes[-1].outputs, strict=True):
            new.name, new.shape, new.type = _renamed(old.name or "", layer), old.shape, old.type
            copied[old] = new
            if old.is_graph_output():
                graph.outputs.append(new)
    return nodes


def _copied_input(
    graph: ir.Graph, value: ir.Value | None, layer: int, copied: dict[ir.Value, ir.Value]
) -> ir.Value | None:
    name = _renamed(value.name or "", layer) if value is not None else None
    if value is None or value in copied or name is None:
        return copied.get(value, value) if value is not None else None
    new = ir.Value(name=name, shape=value.shape, type=value.type)
    copied[value] = new
    if value.is_graph_input():
        graph.inputs.append(new)
    else:
        new.const_value = _renamed_tensor(value.const_value, name)
        graph.register_initializer(new)
    return new


def _renamed_tensor(tensor: ir.TensorProtocol | None, name: str) -> ir.TensorProtocol:
    if isinstance(tensor, ir.ExternalTensor):
        return ir.ExternalTensor(
            f"{WEIGHTS_DIR}/{name}", 0, tensor.length, tensor.dtype, shape=tensor.shape, name=name
        )
    assert tensor is not None, "an initializer has a value"
    return ir.Tensor(tensor.numpy(), name=name)
