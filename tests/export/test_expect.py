"""What torch writes is checked against the names that the passes know, before anything is built."""

import onnx_ir as ir
import pytest

from export.errors import TraceError
from export.passes import run_passes
from export.passes.name_nodes import SCOPES_KEY, NameNodes
from export.passes.repeat_layers import RepeatLayers
from export.trace import trace
from runtime.bundle.manifest import GraphSpec
from runtime.bundle.node_names import module_of
from tests.models import TINY

CONFIG = TINY.model_copy(update={"num_hidden_layers": 3})
SPEC = GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=8)


@pytest.fixture(scope="module")
def traced() -> ir.Model:
    return trace(CONFIG, SPEC)


def with_scopes(model: ir.Model, old: str, new: str) -> ir.Model:
    """The graph with the scopes that torch gave it, or would give it if a module had a new name."""
    model = model.clone()
    for node in model.graph:
        module = f"decoder.{module_of(str(node.name))}".replace(old, new)
        node.metadata_props[SCOPES_KEY] = repr(["", module, node.op_type])
    return model


def test_what_torch_writes_is_accepted_and_named_as_before(traced: ir.Model) -> None:
    again = with_scopes(traced, "", "")
    run_passes(again, [NameNodes(3)])
    assert [node.name for node in again.graph] == [node.name for node in traced.graph]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("layers.1", "blocks.1", "got 2, without layers.1; allowed: 3"),
        (
            "1.mlp.gate_proj",
            "1.mlp.w1",
            "got 43, without layers.1.mlp.gate_proj/MatMul; allowed: 44",
        ),
        ("embed_tokens", "wte", "got 43, without embed_tokens/Gather; allowed: 44"),
        ("decoder.norm", "decoder.ln", "got 41, without norm/Add; allowed: 44"),
    ],
)
def test_a_module_of_another_name_is_refused(
    old: str, new: str, said: str, traced: ir.Model
) -> None:
    """It was a bare KeyError here, or while compiling."""
    renamed = with_scopes(traced, old, new)
    with pytest.raises(TraceError, match="has not the nodes that NameNodes looks for") as error:
        run_passes(renamed, [NameNodes(3)])
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("layers.1.self_attn.o_proj/MatMul", "got 6, without layers.1.self_attn.o_proj/MatMul"),
        ("layers.1/Add_1", "got 1, without hidden.1; allowed: 2"),
    ],
)
def test_a_pattern_without_its_nodes_is_not_repeated(
    name: str, said: str, traced: ir.Model
) -> None:
    model = traced.clone()
    [node] = [node for node in model.graph if node.name == name]
    node.name = node.outputs[0].name = "renamed"
    with pytest.raises(TraceError, match="RepeatLayers looks for") as error:
        run_passes(model, [RepeatLayers(4)])
    assert said in str(error.value)
