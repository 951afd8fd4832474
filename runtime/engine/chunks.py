"""How a prompt is cut into graph calls."""

from collections.abc import Sequence

__all__ = ["CALL_COST", "plan_chunks"]

# What one more call costs, in rows: reading all weights once against computing one more row.
CALL_COST = 16


def plan_chunks(num_tokens: int, seq_lens: Sequence[int], static_shapes: bool) -> list[int]:
    """Cuts a prompt into graph lengths with the least work, padding included.

    Args:
        num_tokens: tokens to run.
        seq_lens: lengths of the graphs at hand.
        static_shapes: whether a chunk shorter than its graph is padded.

    Returns:
        One graph length per chunk; only the last chunk may be shorter than its graph.
    """
    # For every number of tokens left: the least cost, and the graph to start with (the longest).
    costs, starts = [0], [0]
    for left in range(1, num_tokens + 1):
        cost, start = min(
            ((n if static_shapes else min(n, left)) + CALL_COST + costs[max(0, left - n)], -n)
            for n in seq_lens
        )
        costs.append(cost)
        starts.append(-start)
    plan: list[int] = []
    while num_tokens > 0:
        plan.append(starts[num_tokens])
        num_tokens -= plan[-1]
    return plan
