"""THE ORDERED LIST of rewrites from the portable graphs to what ONNX Runtime runs fastest."""

from collections.abc import Sequence

from profiles import Profile
from runtime.sessions.onnx.inplace_cache import cache_rows
from toolchain.errors import TargetError
from toolchain.targets.cpu.float32 import Float32
from toolchain.targets.cpu.free_dimensions import FreeDimensions
from toolchain.targets.cpu.fuse_norms import FuseNorms
from toolchain.targets.cpu.grouped_query_attention import GroupedQueryAttention
from toolchain.targets.cpu.pack_qkv import PackQkv
from toolchain.targets.cpu.precisions import BITS
from toolchain.targets.cpu.quantize_weights import QuantizeWeights
from toolchain.targets.rewrite import Rewrite, choose_rewrites

__all__ = ["FREE_DIMENSIONS", "PASSES", "choose_passes"]

FREE_DIMENSIONS = "free_dimensions"


def _quantize_weights(profile: Profile) -> QuantizeWeights:
    bits, head_bits = BITS[profile.weights]
    return QuantizeWeights(bits, profile.block_size, head_bits)


PASSES = (
    Rewrite(
        name="quantize_weights",
        make=lambda _, profile: _quantize_weights(profile),
        instead="give --weights fp32",
    ),
    Rewrite(
        name="float32",
        make=lambda *_: Float32(),
        instead="the exported bundle computes in float16; `runtime generate` runs it",
    ),
    Rewrite(
        name="grouped_query_attention",
        make=lambda manifest, _: GroupedQueryAttention(
            manifest.model, cache_rows(manifest.cache_len)
        ),
        needs=(FREE_DIMENSIONS,),  # a padded row would be appended to the cache
    ),
    Rewrite(
        name="pack_qkv",
        make=lambda *_: PackQkv(),
        needs=("quantize_weights", "grouped_query_attention"),
    ),
    Rewrite(
        name=FREE_DIMENSIONS,
        make=lambda *_: FreeDimensions(),
        needs=("grouped_query_attention",),  # the written-out mask has the size of the cache
    ),
    Rewrite(name="fuse_norms", make=lambda *_: FuseNorms()),
)


def choose_passes(profile: Profile, without: Sequence[str]) -> list[Rewrite]:
    """See choose_rewrites.

    Raises:
        TargetError: besides, a rewrite left out that the cache needs.
    """
    left_out = () if profile.weights in BITS else ("quantize_weights",)
    chosen = choose_rewrites(PASSES, profile, without, left_out)
    if profile.kv_cache == "int8" and FREE_DIMENSIONS not in {rewrite.name for rewrite in chosen}:
        raise TargetError(
            "an int8 cache needs the rewrite grouped_query_attention",
            got=f"without {', '.join(without)}",
            next_step="give --kv-cache float",
        )
    return chosen
