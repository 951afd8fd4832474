"""The wheels of a box, whatever its CPU and Python: the runtime, what that needs, and pip."""

from collections.abc import Sequence
from pathlib import Path

from runtime.bundle.manifest import Backend, Manifest
from runtime.progress import Progress
from toolchain.errors import PackError
from toolchain.pack.project import DISTRIBUTION, Project, run_pip

__all__ = ["collect_wheels", "extras_of"]

# What docs/operate.md installs for each backend, besides what serves.
BACKEND_EXTRAS: dict[Backend, tuple[str, ...]] = {
    "portable": ("cpu",),
    "onnxruntime": ("cpu",),
    "acl": (),
    "torch": ("torch",),
    "torch-cuda": ("torch",),
}
OLDEST_GLIBC, NEWEST_GLIBC = 5, 28  # 2.28 is what ONNX Runtime and our own library ask for
EXTRA_GLIBC = {"constrain": 31}  # llguidance for aarch64
WHEEL_NAME = DISTRIBUTION.replace("-", "_") + "-*.whl"


def extras_of(manifest: Manifest, more: Sequence[str]) -> list[str]:
    """The extras of the runtime that a bundle needs on its box, and more that are asked for."""
    hf = ("hf",) if manifest.tokenizer == "tokenizers" or manifest.template == "jinja" else ()
    return sorted({"serve", *BACKEND_EXTRAS[manifest.backend], *hf, *more})


def collect_wheels(
    project: Project,
    work: Path,
    *,
    host_cpu: str,
    python: str,
    extras: Sequence[str],
    offered: Path | None,
    progress: Progress,
) -> list[Path]:
    """Fetches or builds all wheels; the first one is the project's own.

    Args:
        project: where its own wheel is built from, if `offered` has none.
        work: a directory to work in.
        host_cpu: x86_64 or aarch64.
        python: for example 3.11.
        extras: of the project's own wheel.
        offered: a directory of wheels that nothing is fetched besides; None for pip's index.
        progress: is told of each package.

    Raises:
        PackError: a wheel cannot be had for that CPU and Python.
    """
    sources = [] if offered is None else ["--no-index", "--find-links", str(offered)]
    if offered is not None and not offered.is_dir():
        raise PackError(f"no directory {offered}", allowed="a directory of wheels", param="wheels")
    chosen = ",".join(extras)
    if offered is not None and any(offered.glob(WHEEL_NAME)):
        wanted = f"{DISTRIBUTION}[{chosen}]"
    else:
        built = work / "built"
        built.mkdir()
        wanted = f"{project.build_wheel(built, host_cpu, sources, progress)}[{chosen}]"
    wheels = work / "wheels"
    progress.step(f"collecting wheels for {host_cpu} and Python {python}")
    run_pip(
        [
            "download",
            "--dest",
            str(wheels),
            *_of_box(host_cpu, python, extras),
            *sources,
            wanted,
            "pip",
        ],
        progress,
    )
    [own] = wheels.glob(WHEEL_NAME)
    return [own, *sorted(wheel for wheel in wheels.iterdir() if wheel != own)]


def _of_box(host_cpu: str, python: str, extras: Sequence[str]) -> list[str]:
    """Options of pip for the wheels of another machine, newest C library first."""
    newest = max([NEWEST_GLIBC, *(EXTRA_GLIBC.get(name, 0) for name in extras)])
    glibc = range(newest, OLDEST_GLIBC - 1, -1)
    platforms = [*(f"manylinux_2_{minor}" for minor in glibc), "manylinux2014", "linux"]
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    options += ["--abi", f"cp{python.replace('.', '')}"]
    return options + [f"--platform={platform}_{host_cpu}" for platform in platforms]


def check_kernels(manifest: Manifest, own: Path) -> None:
    """Refuses a wheel without the kernels that the bundle calls.

    Raises:
        PackError: they could not be built.
    """
    if manifest.kernels is not None and own.stem.endswith("-any"):
        raise PackError(
            "the bundle calls kernels of our own, which the wheel lacks",
            got=own.name,
            next_step="`pip install ziglang` builds them for any CPU; "
            "or compile with --kernels onnxruntime",
        )
