"""What the lowered graphs of a 7B move and start, counted node by node."""

import math
from collections.abc import Iterator

import onnx_ir as ir
import pytest

from export.trace import trace
from profiles import Precision, load_profile
from runtime.bundle.manifest import GraphSpec
from tests.models import SEVEN_B, bare_manifest
from toolchain.targets.ascend.passes import ascend_passes
from toolchain.targets.pass_list import run_passes

pytestmark = pytest.mark.slow

CONFIG = SEVEN_B.model_copy(update={"num_hidden_layers": 3})
MIDDLE, ALL_LAYERS = "layers.1", 32
NO_KERNEL = {"Reshape", "Squeeze", "Unsqueeze"}
WEIGHTS = 2 * (4 * 4096 * 4096 + 3 * 4096 * 11008)  # of a layer, in float16
HEAD = 2 * 4096 * 55296
ROW = 2 * 2 * 4096  # key and value of a layer


def lowered(spec: GraphSpec, weights: Precision = "fp16") -> ir.Graph:
    profile = load_profile("310p3").model_copy(update={"weights": weights})
    model = trace(CONFIG, spec)
    run_passes(model, ascend_passes(profile, []), bare_manifest(CONFIG), profile)
    return model.graph


def kernels(graph: ir.Graph) -> Iterator[ir.Node]:
    """Nodes that a chip runs: a reshape is none, and what reads a weight alone is folded."""
    for node in graph:
        turned = node.op_type == "Transpose" and node.inputs[0] in graph.initializers.values()
        if node.op_type not in NO_KERNEL and not turned:
            yield node


def num_bytes(node: ir.Node) -> int:
    """Read and written; of a table only the rows that are looked up."""
    values = [*node.inputs[1 if node.op_type == "Gather" else 0 :], *node.outputs]
    return sum(
        math.prod(value.shape.numpy()) * int(value.dtype.itemsize)
        for value in values
        if value is not None and value.shape is not None and value.dtype is not None
    )


def of_layer(graph: ir.Graph, layer: str) -> list[ir.Node]:
    scope = (f"{layer}.", f"{layer}/")
    return [node for node in kernels(graph) if str(node.name).startswith(scope)]


def bytes_of_call(graph: ir.Graph) -> int:
    """With as many layers as the model has, all like the middle one."""
    layer = sum(map(num_bytes, of_layer(graph, MIDDLE)))
    rest = [node for node in kernels(graph) if not str(node.name).startswith("layers.")]
    return ALL_LAYERS * layer + sum(map(num_bytes, rest))


@pytest.mark.parametrize("cache_len", [128, 2048, 4096])
def test_a_token_reads_weights_and_cache_once_in_thirty_kernels_a_layer(cache_len: int) -> None:
    graph = lowered(GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=cache_len))
    limit = ALL_LAYERS * (WEIGHTS + cache_len * ROW) + HEAD
    assert bytes_of_call(graph) <= 1.02 * limit
    assert len(of_layer(graph, MIDDLE)) <= 30


def test_int8_weights_halve_what_a_token_reads_of_them() -> None:
    graph = lowered(GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=2048), "int8")
    limit = ALL_LAYERS * (WEIGHTS // 2 + 2048 * ROW) + HEAD // 2
    assert bytes_of_call(graph) <= 1.03 * limit
    assert len(of_layer(graph, MIDDLE)) <= 30


@pytest.mark.parametrize(("cache_len", "most"), [(2048, 0.46), (0, 0.28)])
def test_a_layer_of_prefill_moves_a_part_of_what_written_out_attention_moved(
    cache_len: int, most: float
) -> None:
    """3,194 MB with 2,048 rows cached: joined scores, mask and softmax in float32."""
    graph = lowered(GraphSpec(phase="prefill", batch_size=1, seq_len=512, cache_len=cache_len))
    assert sum(map(num_bytes, of_layer(graph, MIDDLE))) <= most * 3_194e6
