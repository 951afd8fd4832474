"""What each graph for a shorter cache costs and saves."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.bundle.manifest import GraphSpec
from toolchain.costs.calls import Counted
from toolchain.costs.quantity import total
from toolchain.plan.roofline import Roofline

__all__ = ["ShortCache", "short_caches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortCache:
    """A graph for sequences of up to so many cached rows.

    saved_s: seconds, of every call of such a sequence.
    device_bytes: what it adds to the memory of the device.
    compile_s: seconds that it adds to compile.
    """

    graph: str
    cached_rows: int
    saved_s: float
    device_bytes: float
    compile_s: float


def short_caches(roofline: Roofline, counted: Mapping[GraphSpec, Counted]) -> list[ShortCache]:
    """Those of the profile that its target makes.

    Args:
        roofline: the model on the device.
        counted: the graphs as lowered; none, or all. Without them the times are the limits.
    """
    config, profile, footprint = roofline.config, roofline.profile, roofline.footprint
    made = [spec for spec in profile.short_graphs if spec in roofline.costs]
    if not made:
        return []
    whole = profile.model_copy(update={"short_caches": ()})
    # Each adds as much as any other: graphs share their weights and buffers.
    states = [total(footprint.state(config, each)) for each in (whole, profile)]
    builds = [footprint.compile(config, each).time.value for each in (whole, profile)]
    device_bytes, compile_s = ((more - less) / len(made) for less, more in (states, builds))

    def seconds(spec: GraphSpec) -> float:
        limit = roofline.rates.seconds(*roofline.call(spec.seq_len, spec.cache_len))
        return counted[spec].seconds if counted else limit

    return [
        ShortCache(
            graph=spec.name_beside(profile.cache_len),
            cached_rows=spec.cache_len,
            saved_s=seconds(spec.model_copy(update={"cache_len": profile.cache_len}))
            - seconds(spec),
            device_bytes=device_bytes,
            compile_s=compile_s,
        )
        for spec in made
    ]
