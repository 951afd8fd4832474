"""The targets that `toolchain compile` knows; choosing one is a look-up here."""

from toolchain.errors import TargetError
from toolchain.targets.ascend import ASCEND
from toolchain.targets.base import Footprint, Target
from toolchain.targets.cpu import CPU

__all__ = ["TARGETS", "Footprint", "Target", "find_target"]

TARGETS: dict[str, Target] = {"cpu": CPU, "310p3": ASCEND, "910b3": ASCEND}


def find_target(name: str, weights: str, kv_cache: str) -> Target:
    """The target of this name.

    Raises:
        TargetError: no such target, or a precision that it lacks.
    """
    if name not in TARGETS:
        raise TargetError("no such target", got=name, allowed=", ".join(TARGETS))
    target = TARGETS[name]
    for what, got, allowed in (
        ("weights", weights, target.weights),
        ("KV cache", kv_cache, target.kv_caches),
    ):
        if got not in allowed:
            raise TargetError(
                f"target {name} has no such {what}", got=got, allowed=", ".join(allowed)
            )
    return target
