"""THE ORDERED LIST of rewrites from the portable graphs to what ATC is given."""

from collections.abc import Sequence

from profiles import Profile
from runtime.bundle.manifest import CacheLayout
from toolchain.targets.ascend.npu_rms_norm import NpuRmsNorm
from toolchain.targets.ascend.rows_first_cache import RowsFirstCache
from toolchain.targets.ascend.split_attention import SplitAttention
from toolchain.targets.ascend.weight_quant import WeightQuant
from toolchain.targets.rewrite import Rewrite, choose_rewrites

__all__ = ["PASSES", "cache_layout", "choose_passes"]

# The portable graph already has what ATC wants with precision_mode_v2=origin: float16 products and
# explicit float32 islands. Not here: PromptFlashAttention, which takes no mask on a 310P unless
# as many rows are cached as are new, and IncreFlashAttention, whose ONNX plugin seems to count its
# inputs wrongly.
PASSES = (
    Rewrite(
        name="weight_quant",
        make=lambda _, profile: WeightQuant(profile.block_size),
        instead="give --weights fp16",
    ),
    Rewrite(name="npu_rms_norm", make=lambda *_: NpuRmsNorm(), optional=True),
    Rewrite(name="split_attention", make=lambda manifest, _: SplitAttention(manifest.model)),
    Rewrite(name="rows_first_cache", make=lambda manifest, _: RowsFirstCache(manifest.model)),
)


def choose_passes(profile: Profile, without: Sequence[str]) -> list[Rewrite]:
    """See choose_rewrites."""
    left_out = () if profile.weights == "int8" else ("weight_quant",)
    return choose_rewrites(PASSES, profile, without, left_out)


def cache_layout(chosen: Sequence[Rewrite]) -> CacheLayout:
    """How a cache lies in the graphs that these rewrites give."""
    return "NHD" if "rows_first_cache" in {rewrite.name for rewrite in chosen} else "HND"
