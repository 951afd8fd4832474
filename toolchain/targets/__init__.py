"""The targets that `toolchain compile` knows; choosing one is a look-up here.

Facts alone: a target's compiler is imported when compile is called.
"""

import math

from profiles import BITS, Profile
from runtime.bundle.manifest import ModelConfig
from toolchain.costs.sizes import linear_shapes
from toolchain.errors import TargetError
from toolchain.targets.ascend import ASCEND
from toolchain.targets.base import Compiled, Footprint, Target
from toolchain.targets.cpu import CPU
from toolchain.targets.torch import TORCH

__all__ = [
    "TARGETS",
    "Compiled",
    "Footprint",
    "Target",
    "bits_per_weight",
    "find_target",
    "target_named",
]

TARGETS: dict[str, Target] = {"cpu": CPU, **TORCH, **ASCEND}


def target_named(name: str) -> Target:
    """A target by its name.

    Raises:
        TargetError: no such target.
    """
    if name not in TARGETS:
        raise TargetError("no such target", got=name, allowed=", ".join(TARGETS))
    return TARGETS[name]


def find_target(profile: Profile) -> Target:
    """The target of a profile.

    Raises:
        TargetError: no such target, or a choice that it lacks.
    """
    target = target_named(profile.target)
    choices: list[tuple[str, object, tuple[object, ...]]] = [
        ("weights", profile.weights, target.weights),
        ("KV cache", profile.kv_cache, target.kv_caches),
        ("kernels", profile.kernels, target.kernels),
        ("via", profile.via, target.vias),
        ("host_cpu", profile.host_cpu, (None, *target.host_cpus)),
    ]
    if profile.weights in BITS:
        choices += [("block_size", size, target.block_sizes) for size in profile.block_sizes]
    if profile.calibrate is not None:
        choices.append(("calibrated weights", profile.weights, target.calibrates))
    if profile.chip is not None and target.soc_name is not None:
        choices.append(("chip", profile.chip.soc_name, (target.soc_name,)))
    for what, got, allowed in choices:
        if got not in allowed:
            raise TargetError(
                f"target {profile.target} has no such {what}",
                got=got,
                allowed=", ".join(map(str, allowed)) or "none",
            )
    return target


def bits_per_weight(config: ModelConfig, profile: Profile) -> float:
    """Of the linear layers, the LM head included, as they lie in memory with their scales.

    Raises:
        TargetError: no such target.
    """
    read = target_named(profile.target).footprint.weights_read(config, profile)
    return 8 * read / sum(map(math.prod, linear_shapes(config).values()))
