"""Whether a machine has what is needed to compile for a profile and to run it."""

from toolchain.doctor.checks import diagnose
from toolchain.doctor.item import Item, is_lacking
from toolchain.host.system import System

__all__ = ["Item", "System", "diagnose", "is_lacking"]
