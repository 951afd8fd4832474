"""THE ORDERED LIST of rewrites from the portable graphs to what ONNX Runtime runs fastest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from profiles import Profile
from runtime.manifest import Manifest
from runtime.sessions.cpu import cache_rows
from toolchain.errors import TargetError
from toolchain.targets.cpu.float32 import Float32
from toolchain.targets.cpu.free_dimensions import FreeDimensions
from toolchain.targets.cpu.fuse_norms import FuseNorms
from toolchain.targets.cpu.grouped_query_attention import GroupedQueryAttention
from toolchain.targets.cpu.pack_qkv import PackQkv
from toolchain.targets.cpu.quantize_weights import BITS, QuantizeWeights

__all__ = ["FREE_DIMENSIONS", "PASSES", "Rewrite", "choose_passes"]

FREE_DIMENSIONS = "free_dimensions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """One entry of the list; `make` takes the exported manifest and the profile.

    needs: rewrites without which this one has no sense; it is left out with any of them.
    instead: how to ask for a bundle without it, where the precision decides that.
    """

    name: str
    make: Callable[[Manifest, Profile], ir.passes.InPlacePass]
    needs: tuple[str, ...] = ()
    instead: str = ""


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
    """The rewrites that a profile takes, less those named and those that need one of them.

    Raises:
        TargetError: no such rewrite, one that the precision decides, or one that the cache needs.
    """
    switches = [rewrite.name for rewrite in PASSES if not rewrite.instead]
    for name in without:
        if name not in switches:
            raise TargetError(
                "compile cannot leave this rewrite out",
                got=name,
                allowed=", ".join(switches),
                next_step=next((each.instead for each in PASSES if each.name == name), None),
            )
    left_out = {*without} if profile.weights in BITS else {*without, "quantize_weights"}
    chosen = list(PASSES)
    while left_out:
        chosen = [rewrite for rewrite in chosen if rewrite.name not in left_out]
        names = {rewrite.name for rewrite in chosen}
        left_out = {rewrite.name for rewrite in chosen if not names.issuperset(rewrite.needs)}
    if profile.kv_cache == "int8" and FREE_DIMENSIONS not in {rewrite.name for rewrite in chosen}:
        raise TargetError(
            "an int8 cache needs the rewrite grouped_query_attention",
            got=f"without {', '.join(without)}",
            next_step="give --kv-cache float",
        )
    return chosen
