"""exported bundle -> compiled bundle for one target."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from profiles import Profile, exported_profile, load_profile, profile_names
from runtime.bundle.manifest import Manifest, Provenance
from runtime.bundle.reader import GENERATION_CONFIG, TOKENIZER, Bundle
from runtime.bundle.writer import BundleWriter, Report
from toolchain.errors import TargetError
from toolchain.host.machine import require_memory
from toolchain.targets import Target, find_target

__all__ = ["compile_bundle", "dry_run"]


def compile_bundle(
    bundle: Bundle,
    output: Path,
    *,
    target: str | None = None,
    weights: str | None = None,
    kv_cache: str | None = None,
    host_cpu: str | None = None,
    without: Sequence[str] = (),
    report: Report,
) -> Bundle:
    """Compiles every graph of an exported bundle.

    Args:
        bundle: an exported bundle.
        output: the bundle to write; an existing bundle is replaced.
        target: overrides the profile's target.
        weights: overrides the profile's precision.
        kv_cache: overrides the profile's precision of the KV cache.
        host_cpu: overrides the profile's CPU of the box.
        without: rewrites to leave out, to find a fault.
        report: told each step and the bytes written.

    Raises:
        TargetError: no such target, a compiled bundle, a choice that the target lacks, or an
            output inside the input.
        UserError: the output cannot be written.
    """
    # 1. Refuse what cannot be compiled.
    manifest = bundle.manifest
    overrides = {"target": target, "weights": weights, "kv_cache": kv_cache, "host_cpu": host_cpu}
    profile = _resolved_profile(bundle, overrides)
    chosen = _checked_target(bundle, profile, output)
    planned = chosen.footprint.compile(manifest.model, profile, profile.weights)
    [memory] = [part.value for part in planned if part.name == "host memory"]
    mapped = sum(entry.size for entry in manifest.files.values())
    require_memory(memory, mapped, f"compile {bundle.path}")

    with BundleWriter(output, report) as writer:
        # 2. Graphs and weights, the target's way.
        compiled = chosen.compile(bundle, profile, without, writer)

        # 3. What the runtime needs besides, and the manifest.
        for name in (TOKENIZER, GENERATION_CONFIG):
            writer.write(name, [bundle.file(name).read_bytes()])
        return writer.finish(
            Manifest(
                stage="compiled",
                target=profile.target,
                weights=profile.weights,
                model=manifest.model,
                graphs=compiled.graphs,
                files=writer.files,
                provenance=_provenance(manifest.provenance, profile, without),
                profile=profile.model_dump(mode="json"),
                device=compiled.device,
            )
        )


def dry_run(
    bundle: Bundle,
    output: Path,
    *,
    target: str | None = None,
    weights: str | None = None,
    kv_cache: str | None = None,
    host_cpu: str | None = None,
    without: Sequence[str] = (),
) -> list[str]:
    """What compile_bundle would check and start, line by line; arguments as there.

    Raises:
        TargetError: as there, or a target that starts no other program.
    """
    overrides = {"target": target, "weights": weights, "kv_cache": kv_cache, "host_cpu": host_cpu}
    profile = _resolved_profile(bundle, overrides)
    chosen = _checked_target(bundle, profile, output)
    if chosen.dry_run is None:
        raise TargetError(
            f"target {profile.target} starts no other program",
            next_step="leave --dry-run out; `toolchain plan` tells what compile will take",
        )
    return chosen.dry_run(bundle, profile, without, output)


def _resolved_profile(bundle: Bundle, overrides: dict[str, str | None]) -> Profile:
    """The exported profile with what is asked for here; another target brings its own chip."""
    profile = exported_profile(bundle)
    given: dict[str, object] = {k: v for k, v in overrides.items() if v is not None}
    target = overrides["target"]
    if target is not None and target != profile.target:
        given["chip"] = load_profile(target).chip if target in profile_names() else None
    return profile.model_copy(update=given)


def _checked_target(bundle: Bundle, profile: Profile, output: Path) -> Target:
    """The profile's target, which can compile this bundle to there."""
    manifest = bundle.manifest
    if manifest.stage != "exported":
        raise TargetError(f"{bundle.path} is compiled already", next_step="give an exported bundle")
    if output.resolve().is_relative_to(bundle.path.resolve()):
        raise TargetError(f"{output} lies in the exported bundle", next_step="give another -o")
    chosen = find_target(profile)
    chosen.check(manifest.model, [graph.spec for graph in manifest.graphs])
    return chosen


def _provenance(exported: Provenance, profile: Profile, without: Sequence[str]) -> Provenance:
    return Provenance(
        source_files=exported.source_files,
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
            "kv_cache": profile.kv_cache,
            "host_cpu": profile.host_cpu,
            "without": list(without),
        },
    )
