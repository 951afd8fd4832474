"""The targets that `toolchain compile` knows; choosing one is a look-up here."""

from profiles import Profile
from toolchain.errors import TargetError
from toolchain.targets.ascend import ASCEND
from toolchain.targets.base import Compiled, Footprint, Target
from toolchain.targets.cpu import CPU

__all__ = ["TARGETS", "Compiled", "Footprint", "Target", "find_target"]

TARGETS: dict[str, Target] = {"cpu": CPU, **ASCEND}


def find_target(profile: Profile) -> Target:
    """The target of a profile.

    Raises:
        TargetError: no such target, or a choice that it lacks.
    """
    if profile.target not in TARGETS:
        raise TargetError("no such target", got=profile.target, allowed=", ".join(TARGETS))
    target = TARGETS[profile.target]
    choices: list[tuple[str, object, tuple[object, ...]]] = [
        ("weights", profile.weights, target.weights),
        ("KV cache", profile.kv_cache, target.kv_caches),
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
