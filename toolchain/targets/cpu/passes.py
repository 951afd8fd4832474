"""THE ORDERED LIST of passes from the portable graphs to what ONNX Runtime runs fastest."""

from collections.abc import Sequence

from profiles import Profile
from runtime.bundle.manifest import Manifest
from runtime.sessions.onnx.inplace_cache import cache_rows
from toolchain.errors import TargetError
from toolchain.targets.cpu.float32 import Float32
from toolchain.targets.cpu.free_dimensions import FreeDimensions
from toolchain.targets.cpu.fuse_norms import FuseNorms
from toolchain.targets.cpu.grouped_query_attention import GroupedQueryAttention
from toolchain.targets.cpu.own_kernels import OwnKernels
from toolchain.targets.cpu.pack_qkv import PackQkv
from toolchain.targets.cpu.precisions import BITS
from toolchain.targets.cpu.quantize_weights import QuantizeWeights
from toolchain.targets.pass_list import Pass, choose_passes

__all__ = ["FREE_DIMENSIONS", "OWN_KERNELS", "PASSES", "cpu_passes"]

FREE_DIMENSIONS = "free_dimensions"
OWN_KERNELS = "own_kernels"


def _quantize_weights(manifest: Manifest, profile: Profile) -> QuantizeWeights:
    bits, head_bits = BITS[profile.weights]
    return QuantizeWeights(manifest.model, bits, profile.block_size, head_bits)


PASSES = (
    Pass(
        name="quantize_weights",
        does="linear layers -> MatMulNBits, int4 or int8",
        make=_quantize_weights,
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
        needs=("quantize_weights", "grouped_query_attention"),
    ),
    Pass(
        name=OWN_KERNELS,
        does="MatMulNBits -> our own product, which reads weights where they are mapped",
        make=lambda *_: OwnKernels(),
        needs=("quantize_weights",),
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


def cpu_passes(profile: Profile, without: Sequence[str]) -> list[Pass]:
    """See choose_passes.

    Raises:
        TargetError: besides, a pass disabled that the cache needs.
    """
    left_out = [] if profile.weights in BITS else ["quantize_weights"]
    if profile.kernels != "own":
        left_out.append(OWN_KERNELS)
    chosen = choose_passes(PASSES, profile, without, left_out)
    if profile.kv_cache == "int8" and FREE_DIMENSIONS not in {each.name for each in chosen}:
        raise TargetError(
            "an int8 cache needs the pass grouped_query_attention",
            got=f"without {', '.join(without)}",
            next_step="give --kv-cache float",
        )
    return chosen
