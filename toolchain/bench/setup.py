"""What a result depends on besides the case: the bundle, the machine and the settings."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from profiles import exported_profile
from runtime.bundle.reader import Bundle
from runtime.kernels.library import Kernels
from runtime.threads import usable_threads
from toolchain.bench.result import Machine, Mode, Setup
from toolchain.host.machine import cpu_name, total_memory

__all__ = ["setup_of", "this_machine"]

PACKAGES = ("numpy", "onnxruntime", "torch")


def setup_of(bundle: Bundle, model: str, mode: Mode, repeats: int) -> Setup:
    """Of a run on this machine."""
    manifest, chip = bundle.manifest, exported_profile(bundle).chip
    return Setup(
        engine=f"alpaca2-toolchain {version('alpaca2-toolchain')}",
        device=cpu_name() if chip is None else chip.soc_name,
        model=model,
        target=manifest.target,
        weights=manifest.weights,
        manifest_sha256=bundle.digest,
        kernels="" if manifest.kernels is None else Kernels().instruction_sets[0],
        mode=mode,
        num_repeats=repeats,
        machine=this_machine(),
    )


def this_machine() -> Machine:
    """The machine that measures."""
    return Machine(
        cpu=cpu_name(),
        num_cores=usable_threads(),
        memory_bytes=total_memory(),
        system=platform.platform(),
        packages={"python": platform.python_version(), **dict(_versions())},
    )


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:  # a target's own, not installed where another one runs
            continue
