"""Layers that are stamped out equal layers that are traced."""

import onnx_ir as ir
import pytest

from export import trace as tracing
from export.passes import repeat_layers
from runtime.bundle.manifest import GraphSpec
from tests.models import TINY

pytestmark = pytest.mark.slow

CONFIG = TINY.model_copy(update={"num_hidden_layers": 5})


def parts(model: ir.Model) -> dict[str, list[bytes]]:
    graph = ir.to_proto(model).graph
    return {
        "nodes": sorted(node.SerializeToString() for node in graph.node),
        "initializers": sorted(tensor.SerializeToString() for tensor in graph.initializer),
        "inputs": [value.SerializeToString() for value in graph.input],
        "outputs": [value.SerializeToString() for value in graph.output],
    }


@pytest.mark.parametrize(
    "spec",
    [
        GraphSpec(phase="prefill", batch_size=1, seq_len=4, cache_len=8),
        GraphSpec(phase="score", batch_size=1, seq_len=4, cache_len=0),
        GraphSpec(phase="decode", batch_size=2, seq_len=1, cache_len=8),
    ],
    ids=lambda spec: spec.name,
)
def test_five_layers_from_two_are_the_five_that_torch_traces(
    spec: GraphSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamped = parts(tracing.trace(CONFIG, spec))
    for module in (tracing, repeat_layers):  # trace all layers, so that none is stamped out
        monkeypatch.setattr(module, "TRACED_LAYERS", CONFIG.num_hidden_layers)
    monkeypatch.setattr("export.passes.TRACED_LAYERS", CONFIG.num_hidden_layers)
    assert stamped == parts(tracing.trace(CONFIG, spec))


def test_one_layer_needs_no_copy() -> None:
    single = CONFIG.model_copy(update={"num_hidden_layers": 1})
    model = tracing.trace(single, GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=8))
    assert [value.name for value in model.graph.outputs] == ["logits", "key.0", "value.0"]
