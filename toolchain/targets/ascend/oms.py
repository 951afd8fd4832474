"""Files that ATC reads -> OMs, which weights each of them takes, and what becomes of both."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from profiles import Profile
from runtime.bundle.manifest import Device, Graph, GraphSpec
from runtime.bundle.reader import GRAPHS_DIR
from runtime.bundle.writer import BundleWriter
from runtime.errors import UserError
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
from toolchain.targets.ascend.cann import Toolkit
from toolchain.targets.ascend.chips import AscendChip
from toolchain.targets.ascend.sharing import weight_files
from toolchain.targets.ascend.source import AtcSource
from toolchain.targets.base import Compiled

__all__ = ["OMs", "atc_job", "compile_all", "discard_all_but", "finish", "logs_of"]

OMs = dict[Path, tuple[Path, ...]]  # each with its weight files, in the order of the sources


def atc_job(
    one: AtcSource, profile: Profile, chip: AscendChip, source: Path, target: Path
) -> AtcJob:
    """ATC's job for a graph, read below one directory and written below another."""
    cache = os.environ.get("ASCEND_CACHE_PATH") or Path.home() / ".cache/alpaca2-toolchain/atc"
    require_plain(target, "the output")
    require_plain(Path(cache).resolve(), "ASCEND_CACHE_PATH")
    return AtcJob(
        name=one.name,
        model=source / GRAPHS_DIR / f"{one.name}{one.suffix}",
        output=target / GRAPHS_DIR / one.name,
        soc_name=chip.soc_name,
        gears=one.gears,
        cache=Path(cache).resolve(),
        deterministic=profile.weights == "int8",
        host_cpu=profile.host_cpu,
    )


def compile_all(
    sources: Sequence[AtcSource],
    profile: Profile,
    chip: AscendChip,
    cann: Toolkit,
    source: Path,
    writer: BundleWriter,
) -> OMs:
    """Runs ATC, one graph after the other.

    Args:
        sources: that lie below `source`.
        profile: of the deployment.
        chip: to compile for.
        cann: the toolkit.
        source: directory that ATC runs in, which the paths of an .air are relative to.
        writer: of the bundle.

    Raises:
        TargetError: ATC fails.
        UserError: its cache or a log cannot be written.
    """
    environment = atc_environment(
        os.environ, usable_threads(), available_memory(), sources[0].weight_bytes
    )
    compiled = {}
    for i, one in enumerate(sources, 1):
        writer.progress.step(f"atc {i}/{len(sources)}: {one.name}")
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


def logs_of(output: Path) -> Path:
    """The directory of ATC's logs: beside the bundle, kept whether it succeeds or not."""
    return output.parent / f"{output.name}.logs"


def discard_all_but(kept: set[Path], directory: Path) -> None:
    """Removes what else ATC left: notes of its own, or the OMs of a first attempt."""
    for file in (directory / GRAPHS_DIR).rglob("*"):
        if file.is_file() and file not in kept:
            file.unlink()


def finish(
    sources: Sequence[AtcSource], compiled: OMs, device: Device, writer: BundleWriter
) -> Compiled:
    """Makes the OMs and their weights files of the bundle."""
    directory = writer.place.directory
    writer.progress.step(device.verdict)
    written = {*compiled, *(file for files in compiled.values() for file in files)}
    discard_all_but(written, directory)
    writer.files.adopt(sorted(file.relative_to(directory).as_posix() for file in written))
    return Compiled(
        graphs=tuple(_graphs(sources, compiled, directory)), backend="acl", device=device
    )


def _graphs(
    sources: Sequence[AtcSource], compiled: Mapping[Path, tuple[Path, ...]], directory: Path
) -> list[Graph]:
    """The graphs in their places, those for fewer cached rows below the one that they are from."""
    placed = [
        member.model_copy(
            update={
                "path": om.relative_to(directory).as_posix(),
                "weights": tuple(file.relative_to(directory).as_posix() for file in files),
            }
        )
        for one, (om, files) in zip(sources, compiled.items(), strict=True)
        for member in one.members
    ]
    longest = max(graph.spec.cache_len for graph in placed)
    short: dict[GraphSpec, list[Graph]] = {}
    for graph in placed:
        if 0 < graph.spec.cache_len < longest:
            whole = graph.spec.model_copy(update={"cache_len": longest})
            short.setdefault(whole, []).append(graph)
    return [
        graph.model_copy(update={"shorter": tuple(short.get(graph.spec, ()))})
        for graph in placed
        if graph.spec.cache_len in (0, longest)
    ]
