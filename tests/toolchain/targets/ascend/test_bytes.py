"""What the lowered graphs of a 7B move and start, kernel by kernel."""

import pytest

from export.trace import trace
from profiles import Precision, load_profile
from runtime.bundle.manifest import GraphSpec
from tests.models import SEVEN_B, bare_manifest
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.ascend.passes import ascend_passes
from toolchain.targets.ascend.traffic import Kernel, kernels
from toolchain.targets.pass_list import run_passes

pytestmark = pytest.mark.slow

CONFIG = SEVEN_B.model_copy(update={"num_hidden_layers": 3})
ALL_LAYERS = 32
WEIGHTS = 4 * 4096 * 4096 + 3 * 4096 * 11008  # of a layer
HEAD = 4096 * 55296
ROW = 2 * 2 * 4096  # bytes of a cached key and value of a layer


def counted(spec: GraphSpec, weights: Precision = "fp16") -> list[Kernel]:
    """On a 310P3; what it converts to its own layout is a kernel too."""
    profile = load_profile("310p3").model_copy(update={"weights": weights})
    model = trace(CONFIG, spec)
    run_passes(model, ascend_passes(profile, []), bare_manifest(CONFIG), profile)
    return kernels(model, CHIPS["310p3"])


def of_layer(found: list[Kernel]) -> list[Kernel]:
    """Of the one in the middle."""
    return [kernel for kernel in found if kernel.node.startswith(("layers.1.", "layers.1/"))]


def num_bytes(found: list[Kernel]) -> int:
    return sum(kernel.num_bytes for kernel in found)


def bytes_of_call(found: list[Kernel]) -> int:
    """With as many layers as the model has, all like the middle one."""
    rest = [kernel for kernel in found if not kernel.node.startswith("layers.")]
    return ALL_LAYERS * num_bytes(of_layer(found)) + num_bytes(rest)


def decode(cache_len: int) -> GraphSpec:
    return GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=cache_len)


@pytest.mark.parametrize(
    ("weights", "cache_len", "most"),
    [("fp16", 128, 1.02), ("fp16", 4096, 1.02), ("int8", 128, 1.02), ("int8", 2048, 1.02)],
)
def test_a_token_reads_weights_and_cache_once(
    weights: Precision, cache_len: int, most: float
) -> None:
    size = {"fp16": 2, "int8": 1}[weights]
    limit = ALL_LAYERS * (size * WEIGHTS + cache_len * ROW) + size * HEAD
    assert bytes_of_call(counted(decode(cache_len), weights)) <= most * limit


@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_a_layer_of_decode_is_thirty_kernels(weights: Precision) -> None:
    """And three conversions of a query or of probabilities, none of the cache."""
    layer = of_layer(counted(decode(2048), weights))
    conversions = [kernel for kernel in layer if kernel.op_type == "TransData"]
    assert len(layer) - len(conversions) <= 30
    assert len(conversions) == 3
    assert num_bytes(conversions) <= 0.1 * 2048 * ROW


@pytest.mark.parametrize(
    ("cache_len", "most"), [(2048, 0.46), (1024, 0.37), (512, 0.32), (0, 0.27)]
)
def test_a_layer_of_prefill_moves_a_part_of_what_written_out_attention_moved(
    cache_len: int, most: float
) -> None:
    """3,194 MB, conversions not counted: 2,048 rows cached, joined scores, mask and softmax in
    float32."""
    spec = GraphSpec(phase="prefill", batch_size=1, seq_len=512, cache_len=cache_len)
    layer = [each for each in of_layer(counted(spec)) if each.op_type != "TransData"]
    assert num_bytes(layer) <= most * 3_194e6
