"""The targets that `toolchain compile` knows; choosing one is a look-up here."""

from toolchain.targets.base import Target
from toolchain.targets.cpu import CPU

__all__ = ["TARGETS", "Target"]

TARGETS: dict[str, Target] = {"cpu": CPU}
