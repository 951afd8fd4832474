"""compile for a chip through torchair: programs -> .air -> ATC -> OMs that write the cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from export.air.weights import Quantisation, Weight, chip_weights
from export.graphs import chip_graph, program_rows
from profiles import Profile
from runtime.bundle.hashing_writer import HashingWriter
from runtime.bundle.manifest import Graph, TensorSpec
from runtime.bundle.reader import GRAPHS_DIR, Bundle
from runtime.bundle.writer import BundleWriter
from toolchain.errors import TargetError
from toolchain.host.packages import CANN_SHARED
from toolchain.targets.ascend.air_process import make_airs, require_torchair
from toolchain.targets.ascend.air_weights import made_bytes, stored_bytes, write_weights
from toolchain.targets.ascend.cann import Toolkit, find_cann
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.ascend.footprint import ASCEND_FOOTPRINT
from toolchain.targets.ascend.oms import compile_all, finish, logs_of
from toolchain.targets.ascend.verdict import device_of
from toolchain.targets.base import Compiled
from toolchain.targets.pass_list import Pass, choose_passes

__all__ = ["STAGING", "AirSource", "air_sources", "check_cann", "compile_from_air", "weights_of"]

STAGING = "air"  # where the graphs and their weights lie while ATC reads them
PASSES: tuple[Pass, ...] = ()  # none that could be left out: the chip's kernels take these graphs


@dataclass(frozen=True, slots=True, kw_only=True)
class AirSource:
    """One .air that ATC will get: an AtcSource."""

    graph: Graph
    weight_bytes: int
    suffix: Literal[".air"] = ".air"
    gears: tuple[tuple[TensorSpec, ...], ...] = ()
    layout: Literal["NHD"] = "NHD"
    cache_write: Literal["graph"] = "graph"

    @property
    def name(self) -> str:
        """See AtcSource.name."""
        return self.graph.spec.name

    @property
    def members(self) -> tuple[Graph, ...]:
        """See AtcSource.members."""
        return (self.graph,)


def compile_from_air(
    bundle: Bundle, profile: Profile, without: Sequence[str], writer: BundleWriter
) -> Compiled:
    """See toolchain.compiler.compile_bundle.

    Raises:
        TargetError: besides, no torchair, no CANN or one before 8.5, or a failure of torchair or
            ATC.
    """
    # 1. Everything that can be refused without torchair and ATC.
    config, chip = bundle.manifest.model, CHIPS[profile.target]
    sources = air_sources(bundle, profile, without)
    torchair, cann = require_torchair(), find_cann(chip)
    check_cann(cann)

    weights = weights_of(bundle, profile)
    with HashingWriter(writer.place.scratch(STAGING), writer.progress) as stage:
        # 2. Weights are joined or quantised on all cores, while ...
        writer.place.require(2 * stored_bytes(weights) + made_bytes(weights))
        writer.progress.expect(made_bytes(weights))
        write_weights(bundle, weights, stage)

        # 3. ... torchair makes the graphs.
        make_airs(
            torchair,
            config,
            profile.block_size if profile.weights == "int8" else None,
            [source.graph for source in sources],
            stage.directory,
            logs_of(writer.place.path) / "torchair.log",
            writer.progress,
        )
        writer.progress.step(f"weights: {len(weights)} tensors")
        stage.wait()

        # 4. ATC, one graph after the other.
        compiled = compile_all(sources, profile, chip, cann, stage.directory, writer)
        device = device_of(bundle, profile, chip, cann, sources, compiled)
    return finish(sources, compiled, device, writer)


def air_sources(bundle: Bundle, profile: Profile, without: Sequence[str]) -> list[AirSource]:
    """What ATC will get.

    Raises:
        TargetError: a pass that is asked for or left out.
    """
    choose_passes(PASSES, profile, without)
    # As settle_way has it for a profile: with lengths, a first chunk reads no row that it has not.
    specs = tuple(graph.spec for graph in bundle.manifest.graphs if graph.spec.cache_len)
    config = bundle.manifest.model
    costs = ASCEND_FOOTPRINT.call_costs(config, profile.model_copy(update={"graphs": specs}))
    num_bytes, rows = stored_bytes(weights_of(bundle, profile)), program_rows(specs)
    return [
        AirSource(
            graph=chip_graph(config, spec, rows, f"{GRAPHS_DIR}/{spec.name}.om", costs[spec]),
            weight_bytes=num_bytes,
        )
        for spec in specs
    ]


def check_cann(cann: Toolkit) -> None:
    """Refuses a toolkit whose ATC does not take a cache as RefData.

    Raises:
        TargetError: it is too old.
    """
    if not cann.shares_weights:
        raise TargetError(
            "graphs that write the cache need a newer CANN",
            got=cann.version,
            allowed=f"{CANN_SHARED} or newer",
            next_step="install it, or give --via onnx",
        )


def weights_of(bundle: Bundle, profile: Profile) -> list[Weight]:
    """The tensors that the graphs take."""
    quantisation = Quantisation(group_size=profile.block_size)
    return chip_weights(bundle.manifest.model, quantisation if profile.weights == "int8" else None)
