"""Where Huawei's torchair lies: a wheel of torch_npu that was unzipped, and never installed."""

from pathlib import Path

import export.air
from toolchain.host.system import System

__all__ = ["HOME", "VERSION", "default_home", "find_torchair", "how_to_get"]

VERSION = "2.13.0"  # of torch_npu, for the torch of the same version that the project pins
HOME = "TORCHAIR_HOME"  # the variable that names the folder
PINNED = Path(export.air.__path__[0]) / "wheel.txt"
# The parts in Python are the same for every CPU and every Python, so one wheel with one hash does.
PLATFORM = "--only-binary=:all: --python-version 3.11 --platform manylinux_2_28_x86_64"


def default_home(system: System) -> str:
    """The folder where nothing names another."""
    return f"{system.environ.get('HOME', '')}/.cache/alpaca2-toolchain/torch_npu-{VERSION}"


def find_torchair(system: System) -> str | None:
    """The folder that the wheel was unzipped to, None where this version is not there."""
    home = system.environ.get(HOME) or default_home(system)
    metadata = f"{home}/torch_npu-{VERSION}.dist-info/METADATA"
    return home if system.text(metadata) is not None else None


def how_to_get(system: System) -> list[str]:
    """The commands, 44 MB to load and 126 MB on the disk."""
    home = system.environ.get(HOME) or default_home(system)
    return [
        f"pip download --no-deps --require-hashes {PLATFORM} -r {PINNED} -d /tmp/torch_npu",
        f"python -m zipfile -e /tmp/torch_npu/torch_npu-{VERSION}-*.whl {home}",
    ]
