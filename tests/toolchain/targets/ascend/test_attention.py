"""Attention as it is lowered for a chip gives the numbers of the portable graph."""

from pathlib import Path

import numpy as np
import pytest

from export.trace import trace
from runtime.bundle.manifest import GraphSpec, ModelConfig, Phase
from runtime.bundle.rope import YarnRope
from tests.models import TINY
from tests.toolchain.targets.ascend.random_decoder import (
    random_feeds,
    run_model,
    write_weights,
)
from toolchain.targets.ascend.rewrite_attention import RewriteAttention
from toolchain.targets.ascend.rows_first_cache import RowsFirstCache
from toolchain.targets.pass_list import tidy

CACHE_LEN = 24
GROUPED = TINY  # two heads share a group
YARN = YarnRope(factor=2.0, original_max_position_embeddings=32, attention_factor=1.7)
STRETCHED = TINY.model_copy(update={"rope_scaling": YARN})  # its cosines and sines are scaled
SINGLE = TINY.model_copy(update={"num_key_value_heads": 4, "head_dim": 64})


def spec(phase: Phase, batch_size: int, seq_len: int, cache_len: int = CACHE_LEN) -> GraphSpec:
    return GraphSpec(phase=phase, batch_size=batch_size, seq_len=seq_len, cache_len=cache_len)


@pytest.mark.parametrize(
    ("config", "graph"),
    [
        (SINGLE, spec("decode", 1, 1)),
        (GROUPED, spec("decode", 1, 1)),
        (GROUPED, spec("decode", 3, 1)),
        (GROUPED, spec("score", 2, 3)),
        (STRETCHED, spec("decode", 1, 1)),
        (STRETCHED, spec("prefill", 1, 4)),
        (SINGLE, spec("prefill", 1, 4)),
        (GROUPED, spec("prefill", 1, 4, cache_len=0)),
    ],
    ids=lambda each: each.name if isinstance(each, GraphSpec) else f"G{each.num_key_value_heads}",
)
def test_logits_and_new_rows_are_those_of_the_portable_graph(
    config: ModelConfig, graph: GraphSpec, tmp_path: Path
) -> None:
    """With the cache as the left operand and joined; rows behind the valid ones are not seen."""
    write_weights(config, tmp_path)
    model = trace(config, graph)
    for start in (0, 7, 20) if graph.cache_len else (0,):
        feeds = random_feeds(config, graph, start)
        expected = run_model(model, feeds, tmp_path)
        rows_first = {
            name: array.transpose(0, 2, 1, 3) if name.startswith("past") else array
            for name, array in feeds.items()
        }
        for most_columns in (0, 1024):
            lowered = model.clone()
            RowsFirstCache(config)(lowered)
            RewriteAttention(config, most_columns)(lowered)
            tidy(lowered)
            found = run_model(lowered, rows_first, tmp_path)
            for name, wanted in expected.items():
                ours = found[name] if name == "logits" else found[name].transpose(0, 2, 1, 3)
                difference = np.abs(ours.astype(np.float32) - wanted.astype(np.float32)).max()
                assert difference <= 8 * np.spacing(np.float16(np.abs(wanted).max())), name
