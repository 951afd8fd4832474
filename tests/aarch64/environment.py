"""The runtime as a box installs it, from wheels for aarch64 and without a network."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from tests.aarch64.box import ENVIRONMENT, PACKAGES, Box
from tests.paths import ROOT

__all__ = ["EXTRAS", "TEST_PACKAGES", "install", "load_wheels", "megabytes"]

EXTRAS = "constrain,cpu,hf,serve"
TEST_PACKAGES = (
    "hypothesis", "jsonschema", "openai", "pexpect", "pytest", "pytest-xdist", "schemathesis"
)  # fmt: skip
GLIBC = range(36, 16, -1)  # 2.36 of Debian 12, down to the oldest that wheels are made for
WHEELS = Path("/wheels")
PIP = (sys.executable, "-m", "pip", "--quiet", "--quiet")  # no warnings


def load_wheels(directory: Path) -> None:
    """Makes the project's wheel, with the kernels that ziglang compiles, and loads all others.

    Raises:
        CalledProcessError: pip failed, and said why.
    """
    shutil.rmtree(directory, ignore_errors=True)
    own = ("wheel", "--no-deps", str(ROOT), "--wheel-dir", str(directory))
    subprocess.run([*PIP, *own], check=True, env=os.environ | {"ALPACA2_KERNELS": "aarch64"})
    (wheel,) = directory.glob("*.whl")
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in GLIBC]
    options = ("--only-binary=:all:", "--python-version=3.11", *platforms, "--dest", str(directory))
    packages = (f"{wheel}[{EXTRAS}]", *TEST_PACKAGES, "pip")  # pip is for packs
    subprocess.run([*PIP, "download", *options, *packages], check=True)


def install(box: Box, wheels: Path, packages: Sequence[str]) -> None:
    """Adds packages to the environment of a box, which is made if there is none.

    Raises:
        CalledProcessError: pip failed, and said why.
    """
    if not box.place(ENVIRONMENT).exists():
        shutil.copytree(wheels, box.place(WHEELS), dirs_exist_ok=True)
        box.run("python3.11", "-m", "venv", ENVIRONMENT)
    options = ("--quiet", "--disable-pip-version-check", "--no-index", "--find-links", WHEELS)
    box.run(ENVIRONMENT / "bin/pip", "install", *options, *packages)


def megabytes(box: Box) -> dict[str, float]:
    """Package and version -> megabytes (2^20) of its files in the environment, largest first."""
    sizes: dict[str, float] = {}
    for found in distributions(path=[str(box.place(PACKAGES))]):
        files = [Path(str(file.locate())) for file in found.files or ()]
        total = sum(file.lstat().st_size for file in files if file.exists())
        sizes[f"{found.name} {found.version}"] = total / 2**20
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))
