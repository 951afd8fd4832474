"""Memory and disk that a 7B model needs with a profile; `toolchain plan MODEL` is exact."""

from profiles import Profile
from toolchain.targets import find_target

__all__ = ["device_bytes", "disk_bytes", "host_bytes"]

WEIGHT_BYTES = {"fp32": 27.7e9, "fp16": 13.9e9, "bf16": 13.9e9, "int8": 7.2e9, "int4": 4.3e9}
CACHED_VALUES = 2 * 32 * 4096  # keys and values of a position in all layers
WORKSPACE_BYTES = 1e9  # masks, logits and what the kernels work in; a guess
# As toolchain.targets.ascend.footprint estimates ATC: two copies of the weights and its own.
ATC_COPIES, ATC_BYTES = 2, 4e9
COPIES_ON_DISK = 3  # checkpoint, exported bundle, compiled bundle; the first two are float16


def device_bytes(profile: Profile) -> float:
    """What running takes with one copy of the weights, where the profile's target computes."""
    width = find_target(profile).footprint.cache_bytes(profile)
    cache = profile.num_slots * profile.cache_len * CACHED_VALUES * width
    return WEIGHT_BYTES[profile.weights] + cache + WORKSPACE_BYTES


def host_bytes(profile: Profile) -> float:
    """Memory that ATC takes to compile one graph."""
    return ATC_COPIES * WEIGHT_BYTES[profile.weights] + ATC_BYTES


def disk_bytes(profile: Profile) -> float:
    """Disk for the checkpoint and both bundles."""
    return (COPIES_ON_DISK - 1) * WEIGHT_BYTES["fp16"] + WEIGHT_BYTES[profile.weights]
