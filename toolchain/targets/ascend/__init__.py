"""Huawei Ascend through ATC: what a bundle for it will take. Compiling is not built yet."""

from collections.abc import Sequence

from runtime.manifest import GraphSpec, ModelConfig
from toolchain.targets.ascend.footprint import ASCEND_FOOTPRINT
from toolchain.targets.base import Target

__all__ = ["ASCEND"]


def _check(config: ModelConfig, specs: Sequence[GraphSpec]) -> None:
    """Nothing that the portable graphs contain is known to be refused."""


ASCEND = Target(
    weights=("fp16", "int8"),
    kv_caches=("float",),
    check=_check,
    compile=None,
    footprint=ASCEND_FOOTPRINT,
)
