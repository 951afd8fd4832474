"""The bytes and operations that a call of a graph cannot do without, and times side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.bundle.manifest import GraphSpec, ModelConfig
from toolchain.costs.sizes import cache_elements, linear_shapes

__all__ = ["Counted", "in_steps", "least_work", "prompt_costs", "work_of_graph"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a call of a lowered graph takes: kernels, bytes moved, operations and seconds."""

    kernels: int
    num_bytes: int
    operations: int
    seconds: float


def least_work(
    config: ModelConfig,
    weight_bytes: float,
    cache_bytes: int,
    rows: int,
    cached: int,
    *,
    sequences: int = 1,
    logit_rows: int = 1,
) -> tuple[float, float]:
    """Bytes and operations of one call over new rows of each of some sequences.

    Bytes: every linear weight once, and the cached keys and values. Operations: two per linear
    weight and row (the LM head for logit_rows only), and four per query element and column of
    attention.

    Args:
        config: the model.
        weight_bytes: of all linear layers.
        cache_bytes: of one number in the KV cache.
        rows: new rows of a sequence.
        cached: rows of it that attention reads besides.
        sequences: how many.
        logit_rows: rows of a sequence whose logits are computed.
    """
    head = config.vocab_size * config.hidden_size
    linear = sum(n * k for n, k in linear_shapes(config).values()) - head
    queries = config.num_hidden_layers * config.num_attention_heads * config.head_dim
    num_bytes = weight_bytes + sequences * cache_bytes * cache_elements(config, cached)
    operations = 2 * (linear * rows + head * logit_rows) + 4 * queries * rows * (cached + rows)
    return num_bytes, sequences * operations


def work_of_graph(
    config: ModelConfig, weight_bytes: float, cache_bytes: int, spec: GraphSpec
) -> tuple[float, float]:
    """The same for a graph whose every row costs, valid or not."""
    return least_work(
        config,
        weight_bytes,
        cache_bytes,
        spec.seq_len,
        spec.cache_len,
        sequences=spec.batch_size,
        logit_rows=spec.seq_len if spec.phase == "score" else 1,
    )


def in_steps(times: Mapping[GraphSpec, float]) -> dict[GraphSpec, float]:
    """Times of calls as multiples of a decode step of one sequence; see Graph.cost."""
    _, step = max(
        (spec.cache_len, time)
        for spec, time in times.items()
        if spec.phase == "decode" and spec.batch_size == 1
    )
    return {spec: time / step for spec, time in times.items()}


def prompt_costs(costs: Mapping[GraphSpec, float]) -> dict[GraphSpec, float]:
    """Those of the graphs that a prompt can run on."""
    return {
        spec: cost for spec, cost in costs.items() if spec.batch_size == 1 and spec.phase != "score"
    }
