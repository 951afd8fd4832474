"""Whether the card holds what was compiled; if not, what is too much and what would fit."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from profiles import Profile
from runtime.bundle.manifest import Device, ModelConfig
from runtime.bundle.reader import Bundle
from toolchain.console import human_bytes
from toolchain.costs.quantity import total
from toolchain.targets.ascend.cann import Toolkit
from toolchain.targets.ascend.chips import AscendChip
from toolchain.targets.ascend.footprint import ASCEND_FOOTPRINT
from toolchain.targets.ascend.sharing import shared_bytes
from toolchain.targets.ascend.source import AtcSource

__all__ = ["SHARES_ALL", "device_of", "too_large"]

SHARES_ALL = 0.99  # of the weight bytes; with less, one OM in gears may be smaller


def device_of(
    bundle: Bundle,
    profile: Profile,
    chip: AscendChip,
    cann: Toolkit,
    sources: Sequence[AtcSource],
    compiled: Mapping[Path, tuple[Path, ...]],
) -> Device:
    """What the card is asked to hold, with the weights as they were really written."""
    all_bytes, shared = shared_bytes({om.name: files for om, files in compiled.items()})
    specs = tuple(member.spec for one in sources for member in one.members)
    served = profile.model_copy(update={"graphs": specs, "short_caches": ()})
    config = bundle.manifest.model
    needed, available = _needed(config, served, all_bytes), None
    if profile.chip is not None:
        available = int(profile.chip.memory.value - profile.chip.reserved.value)
    form = "one OM in gears" if len(compiled) < len(specs) else f"{len(compiled)} OMs"
    left_out = [g.spec.name for g in bundle.manifest.graphs if g.spec not in specs]
    without = f", without {', '.join(left_out)}," if left_out else ""
    room = ", room unknown"
    if available is not None:
        fits = "fits" if needed <= available else _too_much(config, served, all_bytes, available)
        room = f" of {human_bytes(available)}: {fits}"
    return Device(
        soc_name=chip.soc_name,
        memory=chip.memory,
        cann=cann.version,
        cache_layout=sources[0].layout,
        cache_write=sources[0].cache_write,
        weight_bytes=all_bytes,
        shared_bytes=shared,
        needed_bytes=needed,
        available_bytes=available,
        verdict=f"{form}{without} share {shared / all_bytes:.1%} of {human_bytes(all_bytes)} of "
        f"weights; needs about {human_bytes(needed)}{room}",
    )


def too_large(device: Device) -> bool:
    """Whether the card is known to have less than is needed."""
    return device.available_bytes is not None and device.needed_bytes > device.available_bytes


def _needed(config: ModelConfig, profile: Profile, weight_bytes: int) -> int:
    return int(weight_bytes + total(ASCEND_FOOTPRINT.state(config, profile)))


def _too_much(config: ModelConfig, profile: Profile, weight_bytes: int, available: int) -> str:
    """The parts by name, and the least that would have to go."""
    parts = {part.name: part.value for part in ASCEND_FOOTPRINT.state(config, profile)}
    cache = parts.pop("KV cache")
    said = (
        f"does not fit: weights {human_bytes(weight_bytes)}, KV cache (slots {profile.num_slots}) "
        f"{human_bytes(round(cache))}, all else {human_bytes(round(sum(parts.values())))}"
    )
    for smaller, change in _smaller(profile):
        if _needed(config, smaller, weight_bytes) <= available:
            return f"{said}; would fit {change}"
    return f"{said}; `toolchain plan` names the largest change that makes it fit"


def _smaller(profile: Profile) -> Iterator[tuple[Profile, str]]:
    """The profile with fewer slots, then without its largest batches, one after the other."""
    sizes = sorted({spec.batch_size for spec in profile.graphs}, reverse=True)
    for size in sizes:
        left_out = [spec.name for spec in profile.graphs if spec.batch_size > size]
        graphs = tuple(spec for spec in profile.graphs if spec.batch_size <= size)
        without = [f"without {', '.join(left_out)}"] if left_out else []
        for slots in range(profile.num_slots, size - 1, -1):
            smaller = profile.model_copy(update={"graphs": graphs, "slots": slots})
            fewer = [f"with slots {slots} in the profile"] if slots < profile.num_slots else []
            yield smaller, " and ".join([*without, *fewer])
