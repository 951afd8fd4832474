"""The targets that `toolchain compile` knows; choosing one is a look-up here.

Facts alone: a target's compiler is imported when compile is called.
"""

from profiles import Profile
from toolchain.errors import TargetError
from toolchain.targets.ascend import ASCEND
from toolchain.targets.base import Compiled, Footprint, Target
from toolchain.targets.cpu import CPU
from toolchain.targets.torch import TORCH

__all__ = ["TARGETS", "Compiled", "Footprint", "Target", "find_target", "target_named"]

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
        ("host_cpu", profile.host_cpu, (None, *target.host_cpus)),
    ]
    if profile.weights in ("int4", "int8"):
        choices.append(("block_size", profile.block_size, target.block_sizes))
    if profile.chip is not None and target.soc_name is not None:
        choices.append(("chip", profile.chip.soc_name, (target.soc_name,)))
    for what, got, allowed in choices:
        if got not in allowed:
            raise TargetError(
                f"target {profile.target} has no such {what}",
                got=got,
                allowed=", ".join(map(str, allowed)),
            )
    return target
