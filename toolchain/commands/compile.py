"""toolchain compile BUNDLE -o COMPILED."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.options import (
    CacheOption,
    CalibrateOption,
    HostCPUOption,
    KernelsOption,
    TargetOption,
    ViaOption,
    WeightsOption,
)

if TYPE_CHECKING:
    from runtime.bundle.manifest import Manifest

__all__ = ["command"]


def _list_passes(names: list[str] | None) -> list[str] | None:
    """Prints the passes that can be disabled, if that is what is asked."""
    if "help" not in (names or ()):
        return names
    from toolchain.targets import TARGETS
    from toolchain.targets.pass_list import switches

    for passes in dict.fromkeys(target.passes for target in TARGETS.values()):
        print(f"{', '.join(name for name, each in TARGETS.items() if each.passes == passes)}:")
        lines = [f"  {each.name:24}{each.does}" for each in switches(passes.load())]
        print("\n".join(lines or ["  none"]))
    raise typer.Exit


WithoutOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PASS",
        callback=_list_passes,
        is_eager=True,
        help="Disable one pass, to locate a fault; repeatable. --without help lists them.",
    ),
]


def command(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle to write.")],
    target: TargetOption = None,
    weights: WeightsOption = None,
    calibrate: CalibrateOption = None,
    kv_cache: CacheOption = None,
    kernels: KernelsOption = None,
    via: ViaOption = None,
    host_cpu: HostCPUOption = None,
    without: WithoutOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every check and command; start nothing.")
    ] = False,
) -> None:
    """Compile an exported bundle for one target."""
    from runtime.bundle.reader import load_bundle
    from runtime.console import show
    from toolchain import compiler
    from toolchain.choices import Choices
    from toolchain.console import ConsoleProgress, human_bytes

    progress = ConsoleProgress()
    with progress:
        exported = load_bundle(bundle, progress)
    choices = Choices(
        target=target,
        weights=weights,
        calibrate=calibrate,
        kv_cache=kv_cache,
        kernels=kernels,
        via=via,
        host_cpu=host_cpu,
        without=tuple(without or ()),
    )
    if dry_run:
        show("\n".join(compiler.dry_run(exported, output, choices)))
        return
    with progress:
        compiled = compiler.compile_bundle(exported, output, choices, progress=progress)
    size = sum(entry.size for entry in compiled.manifest.files.values())
    kind = f"{compiled.manifest.target} {compiled.manifest.weights}"
    progress.done(f"wrote {output}: {kind}, {human_bytes(size)}")
    _say_what_is_missing(exported.manifest, compiled.manifest, kernels)


def _say_what_is_missing(exported: "Manifest", compiled: "Manifest", kernels: str | None) -> None:
    from runtime.console import note
    from runtime.kernels.build import LIBRARY

    specs = {graph.spec for graph in compiled.graphs}
    missing = [graph.spec.name for graph in exported.graphs if graph.spec not in specs]
    if missing:
        note(f"left out: {', '.join(missing)}; {compiled.target} runs graphs with a cache")
    if compiled.target == "cpu" and kernels is None and not LIBRARY.exists():
        note("ONNX Runtime's kernels: our own are not built (python -m runtime.kernels.build)")
