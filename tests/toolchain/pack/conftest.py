"""One pack of a small bundle and small wheels, made once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toolchain.pack.small_wheels import write_wheels
from toolchain.pack.make import Box, make_pack

THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BOX = Box(host_cpu=None, python=THIS_PYTHON)
Install = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pack") / "wheels"
    write_wheels(directory)
    return directory


@pytest.fixture(scope="session")
def pack(bundles: Path, wheels: Path) -> Path:
    """A pack for this machine."""
    file = wheels.parent / "box.tar"
    make_pack(bundles / "talk-int4", file, BOX, wheels=wheels)
    return file


@pytest.fixture(scope="session")
def install(pack: Path) -> Install:
    """Runs the installer of the pack: arguments -> what it said."""
    subprocess.run(["tar", "-xf", pack, "-C", pack.parent, "install.sh"], check=True)
    script = pack.parent / "install.sh"

    def run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", script, *arguments],
            capture_output=True,
            text=True,
            check=check,
            env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
        )

    return run


@pytest.fixture(scope="session")
def prefix(pack: Path, install: Install) -> Path:
    """Where the pack is installed."""
    directory = pack.parent / "opt"
    install(pack, "--prefix", directory)
    return directory
