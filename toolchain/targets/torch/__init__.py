"""torch on CPU: each graph as a program that AOTInductor compiles to machine code."""

from collections.abc import Sequence

from runtime.bundle.manifest import GraphSpec, ModelConfig
from toolchain.targets.base import Lazy, Target
from toolchain.targets.torch.footprint import TORCH_CPU_FOOTPRINT

__all__ = ["TORCH"]


def _check(config: ModelConfig, specs: Sequence[GraphSpec]) -> None:
    """Takes every model; of graphs without a cache those that start prompts."""


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
