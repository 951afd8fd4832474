"""What the graphs of a deployment move as they are lowered for a chip, before any is compiled."""

from export.graphs import portable_graph
from export.trace import trace
from profiles import Profile
from runtime.bundle.manifest import GraphSpec, Manifest, ModelConfig, Provenance
from runtime.progress import Progress
from toolchain.costs.calls import Counted
from toolchain.costs.rates import chip_rates
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.ascend.passes import ascend_passes
from toolchain.targets.ascend.traffic import kernels, seconds
from toolchain.targets.pass_list import run_passes

__all__ = ["count_from_onnx"]


def count_from_onnx(
    config: ModelConfig, profile: Profile, progress: Progress
) -> dict[GraphSpec, Counted]:
    """See toolchain.targets.base.Count.

    Raises:
        TargetError: a pass that the target has not, or that does not find its nodes.
    """
    chip, rates = CHIPS[profile.target], chip_rates(profile.chip)
    chosen, manifest = ascend_passes(profile, ()), _manifest(config, profile)
    counted, specs = {}, (*profile.graphs, *profile.short_graphs)
    for i, spec in enumerate(specs, 1):
        progress.step(f"counting graph {i}/{len(specs)}: {spec.name_beside(profile.cache_len)}")
        model = trace(config, spec)
        run_passes(model, chosen, manifest, profile)
        found = kernels(model, chip)
        counted[spec] = Counted(
            kernels=len(found),
            num_bytes=sum(kernel.num_bytes for kernel in found),
            operations=sum(kernel.operations for kernel in found),
            seconds=seconds(found, rates),
        )
    return counted


def _manifest(config: ModelConfig, profile: Profile) -> Manifest:
    """That of the bundle that export would write, without its files."""
    return Manifest(
        stage="exported",
        backend="portable",
        target="portable",
        weights="fp16",
        model=config,
        graphs=tuple(portable_graph(config, spec) for spec in profile.graphs),
        num_slots=profile.num_slots,
        files={},
        provenance=Provenance(source_files={}, tool_versions={}, options={}),
        profile=profile.model_dump(mode="json"),
    )
