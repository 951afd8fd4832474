"""Huawei Ascend through ATC, one target per chip."""

from collections.abc import Sequence

from runtime.bundle.manifest import GraphSpec, ModelConfig
from toolchain.targets.ascend.chips import CHIPS, AscendChip
from toolchain.targets.ascend.footprint import ASCEND_FOOTPRINT
from toolchain.targets.ascend.ways import settle_way
from toolchain.targets.base import Lazy, Target

__all__ = ["ASCEND"]


def _check(config: ModelConfig, specs: Sequence[GraphSpec]) -> None:
    """The rules of a chip are about nodes, and checked when the graphs are lowered."""


def _target(chip: AscendChip) -> Target:
    return Target(
        backend="acl",
        weights=("fp16", "int8") if "int8" in chip.weight_quant else ("fp16",),
        kv_caches=("float",),
        block_sizes=(0, 32, 64, 128, 256),  # antiquant_group_size: multiples of 32
        check=_check,
        compiler=Lazy("toolchain.targets.ascend.ways", "compile_for_ascend"),
        passes=Lazy("toolchain.targets.ascend.passes", "PASSES"),
        footprint=ASCEND_FOOTPRINT,
        count=Lazy("toolchain.targets.ascend.ways", "count_for_ascend"),
        dry_run=Lazy("toolchain.targets.ascend.ways", "dry_run_for_ascend"),
        settle=settle_way,
        vias=("auto", "air", "onnx") if chip.torchair else ("auto", "onnx"),
        host_cpus=("x86_64", "aarch64"),
        soc_name=chip.soc_name,
        series=chip.series,
    )


ASCEND = {name: _target(chip) for name, chip in CHIPS.items()}
