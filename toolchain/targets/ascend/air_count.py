"""What the graphs of a deployment move that torchair would make, before any is made."""

from dataclasses import replace

from export.air.count import count_program
from export.air.weights import Quantisation
from export.graphs import chip_graph, program_rows
from profiles import Profile
from runtime.bundle.manifest import GraphSpec, ModelConfig
from runtime.progress import Progress
from toolchain.costs.calls import Counted
from toolchain.costs.rates import chip_rates
from toolchain.targets.ascend.traffic import Kernel, seconds

__all__ = ["count_from_air"]


def count_from_air(
    config: ModelConfig, profile: Profile, progress: Progress
) -> dict[GraphSpec, Counted]:
    """See toolchain.targets.base.Count.

    Each is counted with one layer and with two: all layers but the first take the same.
    """
    counted = {}
    for i, spec in enumerate(profile.graphs, 1):
        progress.step(f"counting graph {i}/{len(profile.graphs)}: {spec.name}")
        one, two = (
            _count(config.model_copy(update={"num_hidden_layers": layers}), profile, spec)
            for layers in (1, 2)
        )
        more = config.num_hidden_layers - 1
        counted[spec] = replace(
            one,
            kernels=one.kernels + more * (two.kernels - one.kernels),
            num_bytes=one.num_bytes + more * (two.num_bytes - one.num_bytes),
            operations=one.operations + more * (two.operations - one.operations),
            seconds=one.seconds + more * (two.seconds - one.seconds),
        )
    return counted


def _count(config: ModelConfig, profile: Profile, spec: GraphSpec) -> Counted:
    quantisation = Quantisation(group_size=profile.block_size)
    graph = chip_graph(config, spec, program_rows(profile.graphs), "", 1.0)
    found = [
        Kernel(node=name, op_type=name, num_bytes=num_bytes, operations=operations)
        for name, num_bytes, operations in count_program(
            config, graph, quantisation if profile.weights == "int8" else None
        )
    ]
    return Counted(
        kernels=len(found),
        num_bytes=sum(kernel.num_bytes for kernel in found),
        operations=sum(kernel.operations for kernel in found),
        seconds=seconds(found, chip_rates(profile.chip)),
    )
