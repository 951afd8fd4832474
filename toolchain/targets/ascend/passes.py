"""THE ORDERED LIST of passes from the portable graphs to what ATC is given."""

from collections.abc import Sequence
from dataclasses import replace

from profiles import Profile
from runtime.bundle.manifest import CacheLayout
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.ascend.join_products import JoinProducts
from toolchain.targets.ascend.npu_rms_norm import NpuRmsNorm
from toolchain.targets.ascend.npu_rotary_mul import NpuRotaryMul
from toolchain.targets.ascend.rewrite_attention import RewriteAttention
from toolchain.targets.ascend.rows_first_cache import RowsFirstCache
from toolchain.targets.ascend.rules.kernel_rules import ABSENT
from toolchain.targets.ascend.start_input import StartInput
from toolchain.targets.ascend.weight_quant import WeightQuant
from toolchain.targets.pass_list import Pass, choose_passes

__all__ = ["IN_GEARS", "PASSES", "ascend_passes", "cache_layout"]

# The portable graph already has what ATC wants with precision_mode_v2=origin: float16 products and
# explicit float32 islands. Not here: PromptFlashAttention, which takes no mask on a 310P unless
# as many rows are cached as are new, and IncreFlashAttention, whose ONNX plugin seems to count its
# inputs wrongly.
PASSES = (
    Pass(
        name="rows_first_cache",
        does="a cache whose rows lie whole, so that one copy appends to a layer",
        make=lambda manifest, _: RowsFirstCache(manifest.model),
    ),
    Pass(
        name="rewrite_attention",
        does="attention that reads the cache where it lies",
        make=lambda manifest, _: RewriteAttention(manifest.model),
        needs=("rows_first_cache",),
    ),
    Pass(
        name="npu_rotary_mul",
        does="rotation of queries and keys as the chip's own kernel",
        make=lambda manifest, _: NpuRotaryMul(manifest.model),
        needs=("rewrite_attention",),
    ),
    Pass(
        name="weight_quant",
        does="linear layers with int8 weights (W8A16)",
        make=lambda manifest, profile: WeightQuant(manifest.model, profile.block_size),
        instead="give --weights fp16",
    ),
    Pass(
        name="join_products",
        does="query, key and value as one product, gate and up as another",
        make=lambda manifest, _: JoinProducts(manifest.model),
    ),
    Pass(
        name="npu_rms_norm",
        does="RMSNorm as the chip's own kernel",
        make=lambda manifest, _: NpuRmsNorm(manifest.model),
    ),
    Pass(
        name="start_input",
        does="positions and mask made on the chip, from how many rows are cached",
        make=lambda *_: StartInput(),
    ),
)

KERNELS = {"npu_rotary_mul": "NPURotaryMul", "npu_rms_norm": "NPURmsNorm"}  # that a pass makes

# What one graph for all lengths has instead: one attention for all, and the inputs that say how
# many rows there are.
IN_GEARS = tuple(
    replace(each, make=lambda manifest, _: RewriteAttention(manifest.model, most_columns=0))
    if each.name == "rewrite_attention"
    else each
    for each in PASSES
    if each.name != "start_input"
)


def ascend_passes(
    profile: Profile, without: Sequence[str], passes: Sequence[Pass] = PASSES
) -> list[Pass]:
    """Those of choose_passes that the chip has the kernels for."""
    absent = ABSENT[CHIPS[profile.target].series]
    left_out = [name for name, kernel in KERNELS.items() if kernel in absent]
    if profile.weights != "int8":
        left_out.append("weight_quant")
    return choose_passes(passes, profile, without, left_out)


def cache_layout(chosen: Sequence[Pass]) -> CacheLayout:
    """How a cache lies in the graphs that these passes give."""
    return "NHD" if "rows_first_cache" in {each.name for each in chosen} else "HND"
