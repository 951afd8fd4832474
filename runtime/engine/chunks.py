"""How a prompt is cut into graph calls."""

from collections.abc import Mapping

__all__ = ["plan_chunks"]

DIGITS = 6  # of costs that are alike the longest graph is taken; the rest is rounding


def plan_chunks(num_tokens: int, costs: Mapping[int, float], static_shapes: bool) -> list[int]:
    """Cuts a prompt into graph lengths with the least cost, padding included.

    Args:
        num_tokens: tokens to run.
        costs: of a call of each graph at hand, by its length; see `Graph.cost`.
        static_shapes: whether a chunk shorter than its graph is padded.

    Returns:
        One graph length per chunk; only the last chunk may be shorter than its graph.
    """
    # For every number of tokens left: the least cost, and the graph to start with.
    least, starts = [0.0], [0]
    for left in range(1, num_tokens + 1):
        totals = {
            n: least[max(0, left - n)]
            + (cost if static_shapes else _cost_of_rows(cost, n, min(n, left)))
            for n, cost in costs.items()
        }
        start = min(totals, key=lambda n: (round(totals[n], DIGITS), -n))
        least.append(totals[start])
        starts.append(start)
    plan: list[int] = []
    while num_tokens > 0:
        plan.append(starts[num_tokens])
        num_tokens -= plan[-1]
    return plan


def _cost_of_rows(cost: float, seq_len: int, rows: int) -> float:
    """Along a straight line from one row, which costs 1, to all rows of the graph."""
    return 1 + (cost - 1) * (rows - 1) / (seq_len - 1) if seq_len > 1 else cost
