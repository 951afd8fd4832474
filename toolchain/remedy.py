"""The largest change that makes a model fit a device."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

from runtime.manifest import GraphSpec
from toolchain.quantity import total
from toolchain.requests import Request, device_parts

__all__ = ["remedy"]

SHORTEST_CACHE = 256

Change = Callable[[Request], Request]


def remedy(request: Request, available: float) -> str:
    """The change, or the fewest together, that makes it fit and saves the most."""
    changes = _changes(request)
    for count in range(1, len(changes) + 1):
        fitting = []
        for names in combinations(changes, count):
            changed = request
            for name in names:
                changed = changes[name](changed)
            needed = total(device_parts(changed))
            if needed <= available:
                fitting.append((needed, " and ".join(names)))
        if fitting:
            needed, joined = min(fitting)
            return f"{joined}, which needs {needed / 1e9:.1f} GB"
    return "none; take a smaller model or a larger device"


def _changes(request: Request) -> dict[str, Change]:
    """What could be given up, by how it is said."""
    changes: dict[str, Change] = {}
    if request.target.footprint.shares_weights and not request.share_weights:
        changes["--share-weights"] = lambda r: replace(r, share_weights=True)
    for other in request.target.weights:
        if other != request.weights:
            changes[f"--weights {other}"] = _with_weights(other)
    if any(spec.batch_size > 1 for spec in request.profile.graphs):
        changes["batch_size 1 in the profile"] = _with_graphs(
            lambda graphs: [spec for spec in graphs if spec.batch_size == 1]
        )
    length = max(spec.cache_len for spec in request.profile.graphs) // 2
    while length >= SHORTEST_CACHE:
        changes[f"cache_len {length} in the profile"] = _with_cache(length)
        length //= 2
    return changes


def _with_weights(weights: str) -> Change:
    return lambda request: replace(request, weights=weights)


def _with_cache(length: int) -> Change:
    return _with_graphs(
        lambda graphs: [
            spec.model_copy(update={"cache_len": min(spec.cache_len, length)}) for spec in graphs
        ]
    )


def _with_graphs(change: Callable[[tuple[GraphSpec, ...]], list[GraphSpec]]) -> Change:
    def changed(request: Request) -> Request:
        graphs = tuple(change(request.profile.graphs))
        return replace(request, profile=request.profile.model_copy(update={"graphs": graphs}))

    return changed
