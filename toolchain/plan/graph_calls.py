"""A call of each graph: the least that it takes, and what it takes as it is lowered."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.bundle.manifest import GraphSpec
from toolchain.costs.calls import Counted, in_steps, work_of_graph
from toolchain.plan.roofline import Roofline

__all__ = ["GraphCall", "graph_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCall:
    """A call with all rows of a graph and of its cache.

    least_bytes, least_operations: what no program can do without.
    limit_s: seconds of these at the rates that the device reaches.
    lowered: what the lowered graph takes, where it is counted.
    steps: what the call costs where a prompt is cut into calls; see Graph.cost.
    """

    graph: str
    least_bytes: float
    least_operations: float
    limit_s: float
    lowered: Counted | None
    steps: float


def graph_calls(roofline: Roofline, counted: Mapping[GraphSpec, Counted]) -> list[GraphCall]:
    """One of every graph of the profile, in its order; then those on shorter caches.

    Args:
        roofline: the model on the device.
        counted: the graphs as lowered; none, or all.
    """
    config, profile, footprint = roofline.config, roofline.profile, roofline.footprint
    weight_bytes = footprint.weights_read(config, profile)
    cache_bytes = footprint.cache_bytes(profile)
    costs = (
        in_steps({spec: call.seconds for spec, call in counted.items()})
        if counted
        else roofline.costs
    )
    calls = []
    for spec in costs:
        num_bytes, operations = work_of_graph(config, weight_bytes, cache_bytes, spec)
        calls.append(
            GraphCall(
                graph=spec.name_beside(profile.cache_len),
                least_bytes=num_bytes,
                least_operations=operations,
                limit_s=roofline.rates.seconds(num_bytes, operations),
                lowered=counted.get(spec),
                steps=costs[spec],
            )
        )
    return calls
