"""compile for an Ascend chip: lowered graphs -> ATC -> OMs that share their weights."""

import os
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from profiles import Profile
from runtime.bundle.hashing_writer import HashingWriter
from runtime.bundle.manifest import Graph, GraphSpec
from runtime.bundle.reader import GRAPHS_DIR, WEIGHTS_DIR, Bundle
from runtime.bundle.writer import BundleWriter
from runtime.errors import UserError
from runtime.progress import Progress
from runtime.threads import usable_threads
from toolchain.host.machine import available_memory
from toolchain.targets.ascend.atc import find_om, run_atc
from toolchain.targets.ascend.atc_command import (
    AtcJob,
    atc_environment,
    compile_options,
    print_options,
)
from toolchain.targets.ascend.atc_options import require_plain
from toolchain.targets.ascend.cann import Toolkit, find_cann
from toolchain.targets.ascend.chips import CHIPS, AscendChip
from toolchain.targets.ascend.lower import Lowered, lower, lower_in_gears
from toolchain.targets.ascend.sharing import weight_files
from toolchain.targets.ascend.verdict import SHARES_ALL, device_of, too_large
from toolchain.targets.base import Compiled
from toolchain.targets.weights import StreamedTensor, weight_job

__all__ = ["STAGING", "atc_job", "compile_for_ascend", "join", "needs_gears"]

STAGING = "onnx"  # where the lowered graphs lie while ATC reads them
MAX_PROTOBUF = 2**31 - 1  # of an ONNX file without its weights


def compile_for_ascend(
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
        compiled = _compile_all(lowered, profile, chip, cann, stage.directory, writer)
        device = device_of(bundle, profile, chip, cann, lowered, compiled)
        if too_large(device) and device.shared_bytes < SHARES_ALL * device.weight_bytes:
            # 4. Where the card cannot hold what the graphs do not share: one OM in gears.
            writer.progress.step(f"{device.verdict}; compiling one OM in gears")
            _discard_all_but(set(), directory)
            lowered = _join(bundle, profile, without, chip, writer.progress)
            _write_graphs(lowered, stage)
            compiled = _compile_all(lowered, profile, chip, cann, stage.directory, writer)
            device = device_of(bundle, profile, chip, cann, lowered, compiled)

    # 5. The OMs and their weights become files of the bundle.
    writer.progress.step(device.verdict)
    written = {*compiled, *(file for files in compiled.values() for file in files)}
    _discard_all_but(written, directory)
    writer.files.adopt(sorted(file.relative_to(directory).as_posix() for file in written))
    graphs = tuple(_graphs(lowered, compiled, directory))
    return Compiled(graphs=graphs, backend="acl", device=device)


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


def logs_of(output: Path) -> Path:
    """The directory of ATC's logs: beside the bundle, kept whether it succeeds or not."""
    return output.parent / f"{output.name}.logs"


def atc_job(one: Lowered, profile: Profile, chip: AscendChip, source: Path, target: Path) -> AtcJob:
    """ATC's job for a lowered graph, read below one directory and written below another."""
    cache = os.environ.get("ASCEND_CACHE_PATH") or Path.home() / ".cache/alpaca2-toolchain/atc"
    require_plain(target, "the output")
    require_plain(Path(cache).resolve(), "ASCEND_CACHE_PATH")
    return AtcJob(
        name=one.name,
        model=source / GRAPHS_DIR / f"{one.name}.onnx",
        output=target / GRAPHS_DIR / one.name,
        soc_name=chip.soc_name,
        gears=tuple(member.inputs for member in one.members),
        cache=Path(cache).resolve(),
        deterministic=profile.weights == "int8",
        host_cpu=profile.host_cpu,
    )


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


def _compile_all(
    lowered: Sequence[Lowered],
    profile: Profile,
    chip: AscendChip,
    cann: Toolkit,
    source: Path,
    writer: BundleWriter,
) -> dict[Path, tuple[Path, ...]]:
    """OM -> its weight files, in the order of the lowered graphs."""
    weight_bytes = sum(tensor.nbytes for tensor in lowered[0].weights.values())
    environment = atc_environment(os.environ, usable_threads(), available_memory(), weight_bytes)
    compiled = {}
    for i, one in enumerate(lowered, 1):
        writer.progress.step(f"atc {i}/{len(lowered)}: {one.name}")
        job = atc_job(one, profile, chip, source, writer.place.directory)
        try:
            job.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write to {job.cache}",
                got=error.strerror,
                next_step="set ASCEND_CACHE_PATH",
            ) from error
        log = logs_of(writer.place.path) / f"{one.name}.log"
        options = compile_options(job)
        run_atc(cann.atc, options, environment, one.name, log, source, writer.progress)
        om, printed = find_om(job.output), source / f"{one.name}.json"
        options = print_options(om, printed)
        log = logs_of(writer.place.path) / f"{one.name}.json.log"
        name = f"{one.name} as JSON"
        run_atc(cann.atc, options, environment, name, log, source, writer.progress)
        compiled[om] = weight_files(printed, om)
    return compiled


def _discard_all_but(kept: set[Path], directory: Path) -> None:
    """Removes what else ATC left: notes of its own, or the OMs of a first attempt."""
    for file in (directory / GRAPHS_DIR).rglob("*"):
        if file.is_file() and file not in kept:
            file.unlink()


def _graphs(
    lowered: Sequence[Lowered], compiled: dict[Path, tuple[Path, ...]], directory: Path
) -> list[Graph]:
    """The graphs in their places, those for fewer cached rows below the one that they are from."""
    placed = [
        member.model_copy(
            update={
                "path": om.relative_to(directory).as_posix(),
                "weights": tuple(file.relative_to(directory).as_posix() for file in files),
            }
        )
        for one, (om, files) in zip(lowered, compiled.items(), strict=True)
        for member in one.members
    ]
    longest = max(graph.spec.cache_len for graph in placed)
    short = [graph for graph in placed if 0 < graph.spec.cache_len < longest]
    decode = GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=longest)
    return [
        graph.model_copy(update={"shorter": tuple(short)}) if graph.spec == decode else graph
        for graph in placed
        if graph not in short
    ]
