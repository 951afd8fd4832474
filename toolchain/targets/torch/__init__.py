"""torch: each graph as a program that AOTInductor compiles to machine code, for CPU or CUDA."""

from collections.abc import Sequence

from runtime.bundle.manifest import GraphSpec, ModelConfig
from toolchain.targets.base import Lazy, Target
from toolchain.targets.torch.devices import DEVICES, TorchDevice
from toolchain.targets.torch.footprint import CPU_FOOTPRINT, CUDA_FOOTPRINT

__all__ = ["TORCH"]

FOOTPRINTS = {"cpu": CPU_FOOTPRINT, "cuda": CUDA_FOOTPRINT}


def _check(config: ModelConfig, specs: Sequence[GraphSpec]) -> None:
    """Takes every model; of graphs without a cache those that start prompts."""


def _target(device: TorchDevice) -> Target:
    return Target(
        backend=device.backend,
        weights=tuple(device.dtypes),
        kv_caches=("float",),
        block_sizes=(0, 16, 32, 64, 128, 256),  # cut down to groups that are whole
        check=_check,
        compiler=Lazy("toolchain.targets.torch.build", "compile_for_torch"),
        passes=Lazy("toolchain.targets.torch.passes", "PASSES"),
        footprint=FOOTPRINTS[device.name],
    )


TORCH = {name: _target(device) for name, device in DEVICES.items()}
