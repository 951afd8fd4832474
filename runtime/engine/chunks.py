"""How a prompt is cut into graph calls."""

from collections.abc import Iterable, Mapping

from runtime.bundle.manifest import Graph, GraphSpec

__all__ = ["GraphCosts", "graph_costs", "plan_chunks"]

GraphCosts = Mapping[GraphSpec, float]  # of a call of each graph; see Graph.cost

DIGITS = 6  # of costs that are alike the longest graph is taken; the rest is rounding


def plan_chunks(
    num_tokens: int, costs: GraphCosts, *, static_shapes: bool, start: int = 0
) -> list[GraphSpec]:
    """Cuts tokens into calls with the least cost, padding included.

    Args:
        num_tokens: tokens to run.
        costs: of the graphs at hand; one that reads any number of rows is among them.
        static_shapes: whether a chunk shorter than its graph is padded.
        start: rows that the sequence has already; a graph reads no more than its cache_len.

    Returns:
        The graph of each chunk; only the last chunk may be shorter than its graph.
    """
    # For every number of tokens left the least cost, and, one place lower, the graph to begin with.
    least, first = [0.0], list[GraphSpec]()
    lengths = {spec.cache_len for spec in costs}
    at_hand: dict[int, tuple[float, GraphSpec]] = {}
    for left in range(1, num_tokens + 1):
        cached = start + num_tokens - left
        if left == 1 or cached in lengths:
            at_hand = _at_hand(costs, cached)
        totals = {
            n: least[max(0, left - n)]
            + (cost if static_shapes else _cost_of_rows(cost, n, min(n, left)))
            for n, (cost, _) in at_hand.items()
        }
        best = min(totals, key=lambda n: (round(totals[n], DIGITS), -n))
        least.append(totals[best])
        first.append(at_hand[best][1])
    plan: list[GraphSpec] = []
    while num_tokens > 0:
        plan.append(first[num_tokens - 1])
        num_tokens -= plan[-1].seq_len
    return plan


def _at_hand(costs: GraphCosts, cached: int) -> dict[int, tuple[float, GraphSpec]]:
    """Of each length the cheapest graph that reads so many rows; of equals the shortest cache."""
    fitting = [(cost, spec) for spec, cost in costs.items() if cached <= spec.cache_len]
    fitting.sort(key=lambda pair: (pair[0], pair[1].cache_len), reverse=True)
    return {spec.seq_len: (cost, spec) for cost, spec in fitting}


def graph_costs(graphs: Iterable[Graph]) -> dict[GraphSpec, float]:
    """What a call costs of each of some graphs, and of the shorter ones of each."""
    return {each.spec: each.cost for graph in graphs for each in (graph, *graph.shorter)}


def _cost_of_rows(cost: float, seq_len: int, rows: int) -> float:
    """Along a straight line from one row, which costs 1, to all rows of the graph."""
    return 1 + (cost - 1) * (rows - 1) / (seq_len - 1) if seq_len > 1 else cost
