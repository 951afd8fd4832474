"""Where Huawei's torchair lies: a wheel of torch_npu that was unzipped, and never installed."""

from pathlib import Path

import export.air
from toolchain.host.system import System

__all__ = ["HOME", "VERSION", "find_torchair", "how_to_get"]

VERSION = "2.13.0"  # of torch_npu, for the torch of the same version that the project pins
HOME = "TORCHAIR_HOME"  # the variable that names the folder, and the folder where nothing does
DEFAULT = f".cache/alpaca2-toolchain/torch_npu-{VERSION}"
PINNED = Path(export.air.__path__[0]) / "wheel.txt"
# The parts in Python are the same for every CPU and every Python, so one wheel with one hash does.
PLATFORM = "--only-binary=:all: --python-version 3.11 --platform manylinux_2_28_x86_64"


def find_torchair(system: System) -> str | None:
    """The folder that the wheel was unzipped to, None where this version is not there."""
    home = system.environ.get(HOME) or f"{system.environ.get('HOME', '')}/{DEFAULT}"
    metadata = f"{home}/torch_npu-{VERSION}.dist-info/METADATA"
    return home if system.text(metadata) is not None else None


def how_to_get(system: System) -> list[str]:
    """Commands of a shell; 44 MB to load and 126 MB on the disk."""
    requirement = PINNED.read_text(encoding="utf-8").splitlines()[-1]
    home = system.environ.get(HOME) or f"~/{DEFAULT}"
    return [
        f"echo '{requirement}' > torch_npu.txt",
        f"pip download --no-deps --require-hashes {PLATFORM} -r torch_npu.txt",
        f"python -m zipfile -e torch_npu-{VERSION}-*.whl {home}",
    ]
