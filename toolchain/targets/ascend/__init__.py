"""Huawei Ascend through ATC: what a bundle for it will take. Compiling is not built yet."""

from toolchain.targets.ascend.footprint import ASCEND_FOOTPRINT
from toolchain.targets.base import Target

__all__ = ["ASCEND"]

ASCEND = Target(weights=("fp16", "int8"), compile=None, footprint=ASCEND_FOOTPRINT)
