"""THE ORDERED LIST of passes from the portable graphs to what ONNX Runtime runs fastest."""

from collections.abc import Sequence
from dataclasses import replace

from profiles import BITS, Profile
from runtime.sessions.onnx.inplace_cache import cache_rows
from toolchain.errors import TargetError
from toolchain.targets.cpu.float32 import Float32
from toolchain.targets.cpu.free_dimensions import FreeDimensions
from toolchain.targets.cpu.fuse_norms import FuseNorms
from toolchain.targets.cpu.grouped_query_attention import GroupedQueryAttention
from toolchain.targets.cpu.own_kernels import OwnKernels
from toolchain.targets.cpu.pack_qkv import PackQkv
from toolchain.targets.cpu.quantize_weights import QuantizeWeights, Rounding, to_nearest
from toolchain.targets.cpu.stored_levels import StoredLevels
from toolchain.targets.pass_list import Pass, choose_passes

__all__ = ["FREE_DIMENSIONS", "OWN_KERNELS", "PASSES", "cpu_passes"]

QUANTIZE_WEIGHTS = "quantize_weights"
FREE_DIMENSIONS = "free_dimensions"
OWN_KERNELS = "own_kernels"


PASSES = (
    Pass(
        name=QUANTIZE_WEIGHTS,
        does="linear layers -> MatMulNBits, int4 or int8",
        make=lambda manifest, profile: QuantizeWeights(manifest.model, profile),
        instead="give --weights fp32",
    ),
    Pass(
        name="float32",
        does="float16 graph -> float32 graph",
        make=lambda *_: Float32(),
        instead="the exported bundle computes in float16; `runtime generate` runs it",
    ),
    Pass(
        name="grouped_query_attention",
        does="attention as one kernel that appends to the cache in place",
        make=lambda manifest, _: GroupedQueryAttention(
            manifest.model, cache_rows(manifest.cache_len)
        ),
        needs=(FREE_DIMENSIONS,),  # a padded row would be appended to the cache
    ),
    Pass(
        name="pack_qkv",
        does="query, key and value as one product",
        make=lambda manifest, _: PackQkv(manifest.model),
        needs=(QUANTIZE_WEIGHTS, "grouped_query_attention"),
    ),
    Pass(
        name=OWN_KERNELS,
        does="MatMulNBits -> our own product, which reads weights where they are mapped",
        make=lambda *_: OwnKernels(),
        needs=(QUANTIZE_WEIGHTS,),
        instead="give --kernels onnxruntime",
    ),
    Pass(
        name=FREE_DIMENSIONS,
        does="one graph for every batch size and length",
        make=lambda *_: FreeDimensions(),
        needs=("grouped_query_attention",),  # the written-out mask has the size of the cache
    ),
    Pass(
        name="fuse_norms",
        does="RMSNorm as one kernel",
        make=lambda manifest, _: FuseNorms(manifest.model),
    ),
)


def cpu_passes(
    profile: Profile,
    without: Sequence[str],
    rounding: Rounding = to_nearest,
    stored: StoredLevels | None = None,
) -> list[Pass]:
    """See choose_passes; with the rounding of weights, or the levels that they have.

    Raises:
        TargetError: besides, a pass disabled that the cache or the rounding needs.
    """
    left_out = [] if profile.weights in BITS else [QUANTIZE_WEIGHTS]
    if profile.kernels != "own":
        left_out.append(OWN_KERNELS)
    chosen = choose_passes(PASSES, profile, without, left_out)
    if FREE_DIMENSIONS not in {each.name for each in chosen}:
        _refuse_layers(profile, without, rounding)
    return [_rounded(each, rounding, stored) for each in chosen]


def _refuse_layers(profile: Profile, without: Sequence[str], rounding: Rounding) -> None:
    """Refuses what runs the layers of the lowered graph one by one."""
    wishes = (
        (profile.kv_cache == "int8", "an int8 cache", "give --kv-cache float"),
        (rounding is not to_nearest, "calibrating", "leave --calibrate out"),
    )
    for wished, what, next_step in wishes:
        if wished:
            raise TargetError(
                f"{what} needs the pass grouped_query_attention",
                got=f"without {', '.join(without)}",
                next_step=next_step,
            )


def _rounded(each: Pass, rounding: Rounding, stored: StoredLevels | None) -> Pass:
    """The pass that quantises with this rounding or these levels, any other as it is."""
    if each.name != QUANTIZE_WEIGHTS or (rounding is to_nearest and stored is None):
        return each
    return replace(
        each,
        make=lambda manifest, profile: QuantizeWeights(manifest.model, profile, rounding, stored),
    )
