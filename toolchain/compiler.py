"""exported bundle -> compiled bundle for one target."""

import platform
from importlib.metadata import version
from pathlib import Path

from profiles import Profile
from runtime.bundle import GENERATION_CONFIG, TOKENIZER, Bundle
from runtime.bundle_writer import BundleWriter, Report
from runtime.manifest import Manifest, Provenance
from toolchain.errors import TargetError
from toolchain.targets import TARGETS

__all__ = ["compile_bundle", "exported_profile"]


def exported_profile(bundle: Bundle) -> Profile:
    """The profile that the bundle was exported with."""
    return Profile.model_validate(bundle.manifest.profile, strict=False)


def compile_bundle(
    bundle: Bundle,
    output: Path,
    *,
    target: str | None = None,
    weights: str | None = None,
    report: Report,
) -> Bundle:
    """Compiles every graph of an exported bundle.

    Args:
        bundle: an exported bundle.
        output: the bundle to write; an existing bundle is replaced.
        target: overrides the profile's target.
        weights: overrides the profile's precision.
        report: told each step and the bytes written.

    Raises:
        TargetError: no such target, a compiled bundle, a precision that the target lacks, or an
            output inside the input.
        UserError: the output cannot be written.
    """
    # 1. Refuse what cannot be compiled.
    manifest, profile = bundle.manifest, exported_profile(bundle)
    target, weights = target or profile.target, weights or profile.weights
    if manifest.stage != "exported":
        raise TargetError(f"{bundle.path} is compiled already", next_step="give an exported bundle")
    if output.resolve().is_relative_to(bundle.path.resolve()):
        raise TargetError(f"{output} lies in the exported bundle", next_step="give another -o")
    if target not in TARGETS:
        raise TargetError("no compiler for target", got=target, allowed=", ".join(TARGETS))
    if weights not in TARGETS[target].weights:
        raise TargetError(
            f"target {target} has no such weights",
            got=weights,
            allowed=", ".join(TARGETS[target].weights),
        )

    with BundleWriter(output, report) as writer:
        # 2. Graphs and weights, the target's way.
        graphs = TARGETS[target].compile(bundle, profile, weights, writer)

        # 3. What the runtime needs besides, and the manifest.
        for name in (TOKENIZER, GENERATION_CONFIG):
            writer.write(name, [bundle.file(name).read_bytes()])
        return writer.finish(
            Manifest(
                stage="compiled",
                target=target,
                weights=weights,
                model=manifest.model,
                graphs=graphs,
                files=writer.files,
                provenance=_provenance(manifest.provenance, target, weights),
                profile=manifest.profile,
            )
        )


def _provenance(exported: Provenance, target: str, weights: str) -> Provenance:
    return Provenance(
        source_files=exported.source_files,
        tool_versions={
            **exported.tool_versions,
            "compile: python": platform.python_version(),
            "compile: onnx-ir": version("onnx-ir"),
        },
        options={**exported.options, "command": "compile", "target": target, "weights": weights},
    )
