"""exported bundle -> compiled bundle for one target."""

import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from export.packing import stored_group_size
from profiles import Profile, exported_profile
from runtime.bundle.manifest import Manifest, Provenance
from runtime.bundle.reader import Bundle
from runtime.bundle.writer import BundleWriter
from runtime.progress import SILENT, Progress
from toolchain.choices import AS_PROFILED, Choices
from toolchain.errors import TargetError
from toolchain.host.machine import require_memory
from toolchain.targets import Compiled, Target, find_target
from toolchain.targets.base import Compile, DryRun

__all__ = ["compile_bundle", "dry_run"]


def compile_bundle(
    bundle: Bundle, output: Path, choices: Choices = AS_PROFILED, *, progress: Progress = SILENT
) -> Bundle:
    """Compiles every graph of an exported bundle.

    Args:
        bundle: an exported bundle.
        output: the bundle to write; an existing bundle is replaced.
        choices: over the profile that it was exported with.
        progress: told each step and the bytes written.

    Raises:
        TargetError: no such target, a compiled bundle, a choice that the target lacks, or an
            output inside the input.
        UserError: the output cannot be written.
    """
    # 1. Refuse what cannot be compiled.
    manifest = bundle.manifest
    profile = _chosen(bundle, choices)
    target = _checked_target(bundle, profile, output)
    profile = target.settle(profile)
    compile_graphs: Compile = target.compiler.load()
    memory = target.footprint.compile(manifest.model, profile).host_memory.value
    mapped = sum(entry.size for entry in manifest.files.values())
    require_memory(memory, mapped, f"compile {bundle.path}")

    with BundleWriter(output, progress) as writer:
        # 2. Graphs and weights, the target's way.
        compiled = compile_graphs(bundle, profile, choices.without, writer)

        # 3. What the runtime needs besides, and the manifest.
        for name in bundle.text_files:
            writer.files.write(name, [bundle.file(name).read_bytes()])
        return writer.finish(
            Manifest(
                stage="compiled",
                backend=compiled.backend,
                target=profile.target,
                weights=profile.weights,
                model=manifest.model,
                graphs=compiled.graphs,
                kernels=compiled.kernels,
                tokenizer=manifest.tokenizer,
                template=manifest.template,
                num_slots=profile.num_slots,
                files=writer.files.entries,
                provenance=_provenance(manifest.provenance, compiled, profile, choices),
                profile=profile.model_dump(mode="json"),
                device=compiled.device,
            )
        )


def dry_run(bundle: Bundle, output: Path, choices: Choices = AS_PROFILED) -> list[str]:
    """What compile_bundle would check and start, line by line; arguments as there.

    Raises:
        TargetError: as there, or a target that starts no other program.
    """
    profile = _chosen(bundle, choices)
    target = _checked_target(bundle, profile, output)
    profile = target.settle(profile)
    if target.dry_run is None:
        raise TargetError(
            f"target {profile.target} starts no other program",
            next_step="leave --dry-run out; `toolchain plan` tells what compile will take",
        )
    describe: DryRun = target.dry_run.load()
    return describe(bundle, profile, choices.without, output)


def _chosen(bundle: Bundle, choices: Choices) -> Profile:
    """The profile that the bundle was exported with, and what is chosen over it."""
    group_size = stored_group_size(bundle.manifest.files)
    return replace(choices, group_size=group_size).apply(exported_profile(bundle))


def _checked_target(bundle: Bundle, profile: Profile, output: Path) -> Target:
    """The profile's target, which can compile this bundle to there."""
    manifest = bundle.manifest
    if manifest.stage != "exported":
        raise TargetError(f"{bundle.path} is compiled already", next_step="give an exported bundle")
    if output.resolve().is_relative_to(bundle.path.resolve()):
        raise TargetError(f"{output} lies in the exported bundle", next_step="give another -o")
    target = find_target(profile)
    target.check(manifest.model, [graph.spec for graph in manifest.graphs])
    return target


def _provenance(
    exported: Provenance, compiled: Compiled, profile: Profile, choices: Choices
) -> Provenance:
    return Provenance(
        source_files={**exported.source_files, **compiled.source_files},
        tool_versions={
            **exported.tool_versions,
            "compile: python": platform.python_version(),
            "compile: onnx-ir": version("onnx-ir"),
        },
        options={
            **exported.options,
            "command": "compile",
            "target": profile.target,
            "weights": profile.weights,
            "calibrate": profile.calibrate,
            "kv_cache": profile.kv_cache,
            "kernels": profile.kernels,
            "via": profile.via,
            "host_cpu": profile.host_cpu,
            "without": list(choices.without),
        },
    )
