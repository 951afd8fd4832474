"""The exact `atc` command of a graph, and the environment that it runs in."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.manifest import TensorSpec
from toolchain.targets.ascend.atc_options import option_list

__all__ = ["AtcJob", "atc_environment", "compile_options", "print_options"]

# By default TE_PARALLEL_COMPILER is 8, MAX_COMPILE_CORE_NUMBER 1: ge, docs/zh/.../env_vars.
MAX_COMPILERS, MAX_CORES = 8, 4  # the second is a guess
COMPILER_BYTES = 1.5e9  # of one kernel compiler; a guess
SHARE_OF_CORES = 0.8

# By the file: its number among ATC's frameworks, and what only such a file takes. Attention over
# lengths that a graph is given needs its tiling on the chip: torchair, its option of that name.
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    ".onnx": ("5", {"input_format": "ND"}),
    ".air": ("1", {"tiling_schedule_optimize": "1"}),
}
Gear = tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtcJob:
    """One run of ATC.

    model: an ONNX file or an .air.
    gears: the inputs of each graph that the OM is for; one, or the shapes that it switches between;
        none of an .air, which says them itself.
    deterministic: whether every run shall give the same bits, where a kernel has a faster way.
    host_cpu: of the box where it differs from this machine, else None.
    """

    name: str
    model: Path
    output: Path
    soc_name: str
    gears: tuple[Gear, ...]
    cache: Path
    deterministic: bool
    host_cpu: str | None


def compile_options(job: AtcJob) -> list[str]:
    """Options that compile one file, static or in gears."""
    framework, own = KINDS[job.model.suffix]
    options = {
        "framework": framework,
        "model": str(job.model),
        "output": str(job.output),
        "soc_version": job.soc_name,
        **own,
        **_shapes(tuple(dict.fromkeys(job.gears))),  # two graphs may have one shape
        "precision_mode_v2": "origin",
        **({"deterministic": "1"} if job.deterministic else {}),
        "external_weight": "1",
        "op_compiler_cache_mode": "enable",
        "op_compiler_cache_dir": str(job.cache),
        "log": "error",
    }
    if job.host_cpu is not None and job.host_cpu != platform.machine():
        options |= {"host_env_os": "linux", "host_env_cpu": job.host_cpu}
    return option_list(options)


def print_options(om: Path, json: Path) -> list[str]:
    """Options that print an OM as JSON."""
    return option_list({"mode": "1", "om": str(om), "json": str(json)})


def _shapes(gears: Sequence[Gear]) -> dict[str, str]:
    """Dimensions in which the gears differ are -1, and listed for every gear in order."""
    if not gears:
        return {}
    inputs: list[str] = []
    numbers: list[list[int]] = [[] for _ in gears]
    for tensors in zip(*gears, strict=True):
        dims: list[int] = []
        for sizes in zip(*(tensor.shape for tensor in tensors), strict=True):
            dims.append(sizes[0] if len(set(sizes)) == 1 else -1)
            if dims[-1] == -1:
                for numbers_of_gear, size in zip(numbers, sizes, strict=True):
                    numbers_of_gear.append(size)
        inputs.append(f"{tensors[0].name}:{','.join(map(str, dims))}")
    options = {"input_shape": ";".join(inputs)}
    if len(gears) > 1:
        options["dynamic_dims"] = ";".join(",".join(map(str, gear)) for gear in numbers)
    return options


def atc_environment(
    base: Mapping[str, str], cores: int, free_bytes: float, weight_bytes: float
) -> dict[str, str]:
    """The environment of ATC: as many compilers as cores and memory bear.

    Args:
        base: this process's environment; what it sets already stays.
        cores: of this machine.
        free_bytes: memory that may be taken.
        weight_bytes: of the graph; ATC holds them twice while it optimises.
    """
    spare = max(0.0, free_bytes - 2 * weight_bytes)
    compilers = max(1, min(MAX_COMPILERS, int(cores * SHARE_OF_CORES), int(spare / COMPILER_BYTES)))
    bounded = {
        "TE_PARALLEL_COMPILER": str(compilers),
        "MAX_COMPILE_CORE_NUMBER": str(max(1, min(MAX_CORES, compilers // 2))),
    }
    return {**bounded, **base}
