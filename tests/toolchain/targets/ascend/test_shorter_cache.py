"""A graph for fewer cached rows is the one that export would have made for them."""

import onnx_ir as ir
import pytest

from export.trace import trace
from profiles import Precision, load_profile
from runtime.bundle.manifest import GraphSpec
from tests.models import TINY, bare_manifest
from toolchain.targets.ascend.passes import ascend_passes
from toolchain.targets.ascend.shorter_cache import ShorterCache
from toolchain.targets.pass_list import run_passes
from toolchain.targets.weights import promise_weights


def decode(cache_len: int) -> GraphSpec:
    return GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=cache_len)


def lowered(model: ir.Model, weights: Precision) -> bytes:
    profile = load_profile("310p3").model_copy(update={"weights": weights})
    run_passes(model, ascend_passes(profile, []), bare_manifest(TINY), profile)
    promise_weights(model)  # they have no bytes
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_it_is_lowered_to_the_same_graph(weights: Precision) -> None:
    model = trace(TINY, decode(24))
    ShorterCache(TINY, 10)(model)
    assert lowered(model, weights) == lowered(trace(TINY, decode(10)), weights)
