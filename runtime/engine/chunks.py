"""How a prompt is cut into graph calls."""

from collections.abc import Iterable, Mapping

from runtime.bundle.manifest import Graph, GraphSpec

__all__ = ["graph_costs", "plan_chunks"]

DIGITS = 6  # of costs that are alike the longest graph is taken; the rest is rounding


def plan_chunks(
    num_tokens: int, costs: Mapping[GraphSpec, float], *, static_shapes: bool, start: int = 0
) -> list[GraphSpec]:
    """Cuts tokens into calls with the least cost, padding included.

    Args:
        num_tokens: tokens to run.
        costs: of a call of each graph at hand; see `Graph.cost`. One that holds any start is among
            them.
        static_shapes: whether a chunk shorter than its graph is padded.
        start: rows that the sequence has already; a graph reads no more than its cache_len.

    Returns:
        The graph of each chunk; only the last chunk may be shorter than its graph.
    """
    graphs = [(spec.seq_len, spec.cache_len, cost) for spec, cost in costs.items()]
    # For every number of tokens left: the least cost, and the graph to begin with.
    least, first = [0.0], [0]
    for left in range(1, num_tokens + 1):
        cached = start + num_tokens - left
        totals = {
            i: least[max(0, left - n)]
            + (cost if static_shapes else _cost_of_rows(cost, n, min(n, left)))
            for i, (n, cache_len, cost) in enumerate(graphs)
            if cached <= cache_len
        }
        best = min(totals, key=lambda i: (round(totals[i], DIGITS), -graphs[i][0], graphs[i][1]))
        least.append(totals[best])
        first.append(best)
    specs, plan = list(costs), list[GraphSpec]()
    while num_tokens > 0:
        plan.append(specs[first[num_tokens]])
        num_tokens -= plan[-1].seq_len
    return plan


def graph_costs(graphs: Iterable[Graph]) -> dict[GraphSpec, float]:
    """What a call costs of each of some graphs, and of the shorter ones of each."""
    return {each.spec: each.cost for graph in graphs for each in (graph, *graph.shorter)}


def _cost_of_rows(cost: float, seq_len: int, rows: int) -> float:
    """Along a straight line from one row, which costs 1, to all rows of the graph."""
    return 1 + (cost - 1) * (rows - 1) / (seq_len - 1) if seq_len > 1 else cost
