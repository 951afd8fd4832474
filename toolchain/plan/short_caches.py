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
    """A decode graph for sequences of up to so many cached rows.

    saved_s: seconds, of every token of such a sequence.
    device_bytes: what it adds to the memory of the device.
    compile_s: seconds that it adds to compile.
    """

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
    whole = profile.model_copy(update={"short_caches": ()})

    def seconds(cached: int) -> float:
        [spec] = [
            spec
            for spec in roofline.costs
            if (spec.phase, spec.batch_size, spec.cache_len) == ("decode", 1, cached)
        ]
        limit = roofline.rates.seconds(*roofline.call(1, cached))
        return counted[spec].seconds if counted else limit

    found = []
    for spec in profile.short_decode:
        if spec in roofline.costs:
            more = profile.model_copy(update={"short_caches": (spec.cache_len,)})
            states = [total(footprint.state(config, each)) for each in (whole, more)]
            builds = [footprint.compile(config, each).time.value for each in (whole, more)]
            found.append(
                ShortCache(
                    cached_rows=spec.cache_len,
                    saved_s=seconds(profile.cache_len) - seconds(spec.cache_len),
                    device_bytes=states[1] - states[0],
                    compile_s=builds[1] - builds[0],
                )
            )
    return found
