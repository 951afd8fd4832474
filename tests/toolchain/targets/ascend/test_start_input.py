"""Positions and mask that a graph makes from `start` are those that the host would send."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from export.trace import trace
from runtime.bundle.manifest import GraphSpec, Phase
from runtime.sessions.attention_mask import attention_mask
from tests.models import TINY
from tests.toolchain.targets.ascend.random_decoder import random_feeds, run_model, write_weights
from toolchain.targets.ascend.rewrite_attention import RewriteAttention
from toolchain.targets.ascend.rows_first_cache import RowsFirstCache
from toolchain.targets.ascend.start_input import StartInput
from toolchain.targets.pass_list import tidy

CACHE_LEN = 24


def spec(phase: Phase, batch_size: int, seq_len: int, cache_len: int = CACHE_LEN) -> GraphSpec:
    return GraphSpec(phase=phase, batch_size=batch_size, seq_len=seq_len, cache_len=cache_len)


def with_passes(model: ir.Model, *passes: ir.passes.InPlacePass) -> ir.Model:
    changed = model.clone()
    for each in passes:
        each(changed)
    tidy(changed)
    return changed


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize(
    "graph",
    [spec("decode", 1, 1), spec("decode", 3, 1), spec("prefill", 1, 4), spec("score", 2, 3)],
    ids=lambda graph: graph.name,
)
def test_a_graph_with_start_gives_the_same_bits(
    graph: GraphSpec, written_out: bool, tmp_path: Path
) -> None:
    """At the start, the middle and the end of a cache, and elsewhere for each sequence."""
    write_weights(TINY, tmp_path)
    rewrite = [] if written_out else [RowsFirstCache(TINY), RewriteAttention(TINY)]
    sent = with_passes(trace(TINY, graph), *rewrite)
    made = with_passes(trace(TINY, graph), *rewrite, StartInput())
    assert [value.name for value in made.graph.inputs][:2] == ["input_ids", "start"]
    for first in (0, 7, CACHE_LEN):
        starts = (first + 5 * np.arange(graph.batch_size)) % (CACHE_LEN + 1)
        feeds = {
            name: array if written_out or not name.startswith("past") else array.swapaxes(1, 2)
            for name, array in random_feeds(TINY, graph, CACHE_LEN).items()
        }
        feeds["position_ids"] = starts[:, None] + np.arange(graph.seq_len)
        feeds["attention_mask"] = attention_mask(graph, starts)
        expected = run_model(sent, feeds, tmp_path)
        del feeds["position_ids"], feeds["attention_mask"]
        found = run_model(made, {**feeds, "start": starts}, tmp_path)
        for name, wanted in expected.items():
            assert np.array_equal(found[name], wanted), (name, first)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_without_a_cache_there_is_nothing_to_start_from(batch_size: int, tmp_path: Path) -> None:
    graph = spec("prefill", batch_size, 4, cache_len=0)
    write_weights(TINY, tmp_path)
    sent = with_passes(trace(TINY, graph), RewriteAttention(TINY))
    made = with_passes(trace(TINY, graph), RewriteAttention(TINY), StartInput())
    feeds = random_feeds(TINY, graph, 0)
    expected = run_model(sent, feeds, tmp_path)
    names = ["input_ids", "logit_rows"]
    assert [value.name for value in made.graph.inputs] == names
    found = run_model(made, {name: feeds[name] for name in names}, tmp_path)
    assert all(np.array_equal(found[name], wanted) for name, wanted in expected.items())
