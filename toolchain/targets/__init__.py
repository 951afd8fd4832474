"""The targets that `toolchain compile` knows; choosing one is a look-up here."""

from toolchain.targets.ascend import ASCEND
from toolchain.targets.base import Footprint, Target
from toolchain.targets.cpu import CPU

__all__ = ["TARGETS", "Footprint", "Target"]

TARGETS: dict[str, Target] = {"cpu": CPU, "310p3": ASCEND, "910b3": ASCEND}
