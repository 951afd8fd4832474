"""torch on CPU: each graph as a program that AOTInductor compiles to machine code."""

from collections.abc import Sequence

from runtime.bundle.manifest import GraphSpec, ModelConfig
from toolchain.errors import TargetError
from toolchain.targets.base import Lazy, Target
from toolchain.targets.torch.footprint import TORCH_CPU_FOOTPRINT

__all__ = ["TORCH"]


def _check(config: ModelConfig, specs: Sequence[GraphSpec]) -> None:
    """A program writes its new rows into a cache and attends to the whole of it."""
    for spec in specs:
        if not spec.cache_len:
            raise TargetError(
                f"graph {spec.name}: a torch program needs a cache",
                got="cache_len 0",
                next_step="leave the graph out of the profile, or give it the others' cache_len",
            )


TORCH = {
    "torch-cpu": Target(
        backend="torch",
        weights=("fp32",),
        kv_caches=("float",),
        block_sizes=(0, 16, 32, 64, 128, 256),  # nothing is quantised: none has an effect
        check=_check,
        compiler=Lazy("toolchain.targets.torch.build", "compile_for_torch"),
        passes=Lazy("toolchain.targets.torch.passes", "PASSES"),
        footprint=TORCH_CPU_FOOTPRINT,
    )
}
