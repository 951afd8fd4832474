"""compile for an Ascend chip from ONNX: lowered graphs -> ATC -> OMs that share their weights."""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from profiles import Profile
from runtime.bundle.hashing_writer import HashingWriter
from runtime.bundle.reader import GRAPHS_DIR, WEIGHTS_DIR, Bundle
from runtime.bundle.writer import BundleWriter
from runtime.progress import Progress
from toolchain.targets.ascend.cann import Toolkit, find_cann
from toolchain.targets.ascend.chips import CHIPS, AscendChip
from toolchain.targets.ascend.lower import Lowered, lower, lower_in_gears
from toolchain.targets.ascend.oms import compile_all, discard_all_but, finish
from toolchain.targets.ascend.verdict import SHARES_ALL, device_of, too_large
from toolchain.targets.base import Compiled
from toolchain.targets.weights import StreamedTensor, weight_job

__all__ = ["STAGING", "compile_from_onnx", "join", "needs_gears"]

STAGING = "onnx"  # where the lowered graphs lie while ATC reads them
MAX_PROTOBUF = 2**31 - 1  # of an ONNX file without its weights


def compile_from_onnx(
    bundle: Bundle, profile: Profile, without: Sequence[str], writer: BundleWriter
) -> Compiled:
    """See toolchain.compiler.compile_bundle.

    Raises:
        TargetError: besides, no CANN, a graph that breaks a rule, or a failure of ATC.
    """
    # 1. Everything that can be refused without ATC.
    chip, directory = CHIPS[profile.target], writer.place.directory
    cann = find_cann(chip)
    writer.progress.step("lowering and checking")
    lowered = lower(bundle, profile, without, chip)
    if needs_gears(cann):
        lowered = _join(bundle, profile, without, chip, writer.progress)

    with HashingWriter(writer.place.scratch(STAGING), writer.progress) as stage:
        # 2. What ATC reads: weights that a pass makes, links to the others, the graphs.
        _write_onnx(lowered, stage, writer)

        # 3. ATC, one graph after the other.
        compiled = compile_all(lowered, profile, chip, cann, stage.directory, writer)
        device = device_of(bundle, profile, chip, cann, lowered, compiled)
        if too_large(device) and device.shared_bytes < SHARES_ALL * device.weight_bytes:
            # 4. Where the card cannot hold what the graphs do not share: one OM in gears.
            writer.progress.step(f"{device.verdict}; compiling one OM in gears")
            discard_all_but(set(), directory)
            lowered = _join(bundle, profile, without, chip, writer.progress)
            _write_graphs(lowered, stage)
            compiled = compile_all(lowered, profile, chip, cann, stage.directory, writer)
            device = device_of(bundle, profile, chip, cann, lowered, compiled)

    # 5. The OMs and their weights become files of the bundle.
    return finish(lowered, compiled, device, writer)


def needs_gears(cann: Toolkit) -> bool:
    """Whether this CANN's runtime gives every OM weights of its own."""
    return not cann.shares_weights


def join(
    bundle: Bundle, profile: Profile, without: Sequence[str], chip: AscendChip
) -> tuple[list[Lowered], list[str]]:
    """One graph in gears instead, and what to tell of the graphs that it cannot hold."""
    joined = lower_in_gears(bundle, profile, without, chip)
    names = {member.spec.name for member in joined.members}
    graphs = (graph.spec.name for graph in bundle.manifest.graphs)
    left_out = [name for name in graphs if name not in names]
    told = f"left out, since gears serve one sequence: {', '.join(left_out)}"
    return [joined], [told] if left_out else []


def _join(
    bundle: Bundle,
    profile: Profile,
    without: Sequence[str],
    chip: AscendChip,
    progress: Progress,
) -> list[Lowered]:
    joined, told = join(bundle, profile, without, chip)
    for text in told:
        progress.step(text)
    return joined


def _write_onnx(lowered: Sequence[Lowered], stage: HashingWriter, writer: BundleWriter) -> None:
    made: dict[tuple[str, ...], StreamedTensor] = {}
    for one in lowered:
        for name, tensor in one.weights.items():
            if isinstance(tensor, StreamedTensor):
                made[tensor.job.names] = tensor
                continue
            link = stage.directory / GRAPHS_DIR / WEIGHTS_DIR / name
            if not link.is_symlink():
                link.symlink_to(Path(tensor.base_dir, tensor.location).resolve())
    # Each run of ATC writes all weights beside those that are there, and then renames them.
    written = 2 * sum(tensor.nbytes for tensor in lowered[0].weights.values())
    writer.place.require(written + sum(tensor.nbytes for tensor in made.values()))
    writer.progress.step(f"weights: {len(made)} made, the others as exported")
    writer.progress.expect(sum(tensor.nbytes for tensor in made.values()))
    stage.start_weights([weight_job(tensor) for tensor in made.values()])
    stage.wait()
    _write_graphs(lowered, stage)


def _write_graphs(lowered: Sequence[Lowered], stage: HashingWriter) -> None:
    for one in lowered:
        data = ir.to_proto(one.model).SerializeToString()
        assert len(data) < MAX_PROTOBUF, "weights lie outside"
        stage.write(f"{GRAPHS_DIR}/{one.name}.onnx", [data])
