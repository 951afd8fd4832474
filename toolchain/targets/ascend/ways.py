"""The ways to an OM: through ONNX, or through torchair's .air. A profile or --via chooses."""

from collections.abc import Sequence
from pathlib import Path

from profiles import Profile
from runtime.bundle.manifest import GraphSpec, ModelConfig
from runtime.bundle.reader import Bundle
from runtime.bundle.writer import BundleWriter
from runtime.progress import Progress
from toolchain.costs.calls import Counted
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.base import Compile, Compiled, Count, DryRun, Lazy

__all__ = ["compile_for_ascend", "count_for_ascend", "dry_run_for_ascend", "settle_way"]

HERE = "toolchain.targets.ascend"
COMPILERS = {
    "air": Lazy(f"{HERE}.from_air", "compile_from_air"),
    "onnx": Lazy(f"{HERE}.build", "compile_from_onnx"),
}
COUNTS = {
    "air": Lazy(f"{HERE}.air_count", "count_from_air"),
    "onnx": Lazy(f"{HERE}.count", "count_from_onnx"),
}
DRY_RUNS = {
    "air": Lazy(f"{HERE}.air_dry_run", "dry_run_from_air"),
    "onnx": Lazy(f"{HERE}.dry_run", "dry_run_from_onnx"),
}


def settle_way(profile: Profile) -> Profile:
    """The profile with a way, torchair's wherever torchair knows the chip, and what it leads to."""
    known = "air" if CHIPS[profile.target].torchair else "onnx"
    way = known if profile.via == "auto" else profile.via
    changed: dict[str, object] = {"via": way}
    if way == "air":  # attention over lengths reads no row too many on the one cache
        cached = tuple(spec for spec in profile.graphs if spec.cache_len)
        changed |= {"graphs": cached, "short_caches": ()}
    return profile.model_copy(update=changed)


def compile_for_ascend(
    bundle: Bundle, profile: Profile, without: Sequence[str], writer: BundleWriter
) -> Compiled:
    """See toolchain.compiler.compile_bundle; raises what the way does."""
    compile_graphs: Compile = COMPILERS[profile.via].load()
    return compile_graphs(bundle, profile, without, writer)


def count_for_ascend(
    config: ModelConfig, profile: Profile, progress: Progress
) -> dict[GraphSpec, Counted]:
    """See toolchain.targets.base.Count; raises what the way does."""
    profile = settle_way(profile)
    count_graphs: Count = COUNTS[profile.via].load()
    return count_graphs(config, profile, progress)


def dry_run_for_ascend(
    bundle: Bundle, profile: Profile, without: Sequence[str], output: Path
) -> list[str]:
    """See toolchain.compiler.dry_run; raises what the way does."""
    describe: DryRun = DRY_RUNS[profile.via].load()
    return describe(bundle, profile, without, output)
