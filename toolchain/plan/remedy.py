"""The largest change that makes a model fit a device."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

from runtime.bundle.manifest import GraphSpec
from toolchain.costs.quantity import total
from toolchain.plan.request import PlanRequest, device_parts

__all__ = ["remedy"]

SHORTEST_CACHE = 256

Change = Callable[[PlanRequest], PlanRequest]


def remedy(request: PlanRequest, available: float) -> str:
    """The fewest changes that make it fit, and of those the ones that save the most.

    A shorter cache is halved no further than it must be.
    """
    longest = request.profile.cache_len
    changes = _changes(request)
    candidates = []
    for count in range(len(changes) + 1):
        for names in combinations(changes, count):
            changed = request
            for name in names:
                changed = changes[name](changed)
            length = longest
            while (
                needed := total(device_parts(changed))
            ) > available and length // 2 >= SHORTEST_CACHE:
                length //= 2
                changed = _with_cache(length)(changed)
            if needed <= available:
                shorter = [f"cache_len {length} in the profile"] if length < longest else []
                candidates.append((count + len(shorter), needed, [*names, *shorter]))
    if not candidates:
        return "none; take a smaller model or a larger device"
    _, needed, said = min(candidates)
    return f"{' and '.join(said)}, which needs {needed / 1e9:.1f} GB"


def _changes(request: PlanRequest) -> dict[str, Change]:
    """What could be given up besides a long cache, by how it is said."""
    changes: dict[str, Change] = {}
    if not request.share_weights:
        changes["--share-weights"] = lambda r: replace(r, share_weights=True)
    for precision in request.target.weights:
        if precision != request.profile.weights:
            changes[f"--weights {precision}"] = _with_profile(weights=precision)
    for kv_cache in request.target.kv_caches:
        if kv_cache != request.profile.kv_cache:
            changes[f"--kv-cache {kv_cache}"] = _with_profile(kv_cache=kv_cache)
    largest = max(spec.batch_size for spec in request.profile.graphs)
    if request.profile.num_slots > largest:
        changes[f"slots {largest} in the profile"] = _with_profile(slots=largest)
    if largest > 1:
        changes["batch_size 1 and 1 slot in the profile"] = _of_one_sequence
    return changes


def _with_profile(**changes: object) -> Change:
    return lambda request: replace(request, profile=request.profile.model_copy(update=changes))


def _of_one_sequence(request: PlanRequest) -> PlanRequest:
    graphs = tuple(spec for spec in request.profile.graphs if spec.batch_size == 1)
    return _with_profile(graphs=graphs, slots=None)(request)


def _with_cache(length: int) -> Change:
    return _with_graphs(
        lambda graphs: [
            spec.model_copy(update={"cache_len": min(spec.cache_len, length)}) for spec in graphs
        ]
    )


def _with_graphs(change: Callable[[tuple[GraphSpec, ...]], list[GraphSpec]]) -> Change:
    def changed(request: PlanRequest) -> PlanRequest:
        graphs = tuple(change(request.profile.graphs))
        return replace(request, profile=request.profile.model_copy(update={"graphs": graphs}))

    return changed
