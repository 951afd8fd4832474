"""What ATC and the drivers call each chip, and what its cores can multiply; data, no code."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["CHIPS", "AscendChip"]

Memory = Literal["ddr", "hbm"]  # which attribute of acl.rt.get_mem_info counts


@dataclass(frozen=True, slots=True, kw_only=True)
class AscendChip:
    """A chip.

    soc_name: what `atc --soc_version` takes and acl.get_soc_name says.
    series: the part of package names and kernel folders that chooses the chip.
    float32_matmul: whether the cube cores multiply float32; else such a MatMul falls to the AI CPU.
    bfloat16: whether any core computes in it.
    right_factor_in_blocks: whether a product takes its right factor in FRACTAL_NZ only, so that
        one that is computed is converted first.
    torchair: whether Huawei's torchair lists it, so that .air graphs can be had for it.
    weight_quant: types of weight that WeightQuantBatchMatmulV2 takes, none where it is absent.
    """

    soc_name: str
    series: Literal["310p", "310b", "910b"]
    memory: Memory
    float32_matmul: bool
    bfloat16: bool
    right_factor_in_blocks: bool
    torchair: bool
    weight_quant: tuple[str, ...]


def _chip_310p(soc_name: str) -> AscendChip:
    # mmad takes float16 and int8 only, and nothing moves ND to NZ on the way to L1: runtime,
    # src/platform/platform_config/cann/Ascend310P3.ini; ops-nn, mat_mul_v3_def.cpp.
    return AscendChip(
        soc_name=soc_name,
        series="310p",
        memory="ddr",
        float32_matmul=False,
        bfloat16=False,
        right_factor_in_blocks=True,
        torchair=False,
        weight_quant=("int8",),
    )


def _chip_910b(soc_name: str) -> AscendChip:
    return AscendChip(
        soc_name=soc_name,
        series="910b",
        memory="hbm",
        float32_matmul=True,
        bfloat16=True,
        right_factor_in_blocks=False,
        torchair=True,  # Ascend/torchair, README: Atlas A2, A3 and 950
        weight_quant=("int8", "int4"),
    )


# Support of weight_quant: ops-nn, matmul/weight_quant_batch_matmul_v2/docs, table of products.
CHIPS: dict[str, AscendChip] = {
    "310p1": _chip_310p("Ascend310P1"),
    "310p3": _chip_310p("Ascend310P3"),
    "310b1": AscendChip(
        soc_name="Ascend310B1",
        series="310b",
        memory="ddr",
        float32_matmul=False,
        bfloat16=True,
        right_factor_in_blocks=False,
        torchair=False,
        weight_quant=(),
    ),
    "910b1": _chip_910b("Ascend910B1"),
    "910b2": _chip_910b("Ascend910B2"),
    "910b3": _chip_910b("Ascend910B3"),
    "910b4": _chip_910b("Ascend910B4"),
}
