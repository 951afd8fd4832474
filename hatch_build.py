"""Builds the library of kernels when the project is installed or a wheel is made.

Without a compiler it asks for ziglang, a compiler from PyPI. Where neither can be had the project
installs all the same, and the kernels of ONNX Runtime compute: `ALPACA2_KERNELS=none pip install`.
`ALPACA2_KERNELS=aarch64 pip wheel` makes the wheel of another machine, always with ziglang.
"""

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))

from runtime.kernels.build import (
    LIBRARY,
    THIS_MACHINE,
    BuildError,
    build,
    has_compiler,
    wheel_platform,
)

MACHINE = os.environ.get("ALPACA2_KERNELS", THIS_MACHINE)  # or none


class KernelsHook(BuildHookInterface[Any]):
    """Adds the library to the wheel; an editable install finds it beside its sources."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What pip installs before the build."""
        return ["ziglang>=0.15"] if MACHINE != "none" and not has_compiler(MACHINE) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is written."""
        if MACHINE == "none":
            return
        place = LIBRARY.relative_to(self.root).as_posix()
        try:
            if MACHINE == THIS_MACHINE:
                build()
                build_data["artifacts"].append(place)
            else:
                library = Path(self.root, "build", f"kernels-{MACHINE}.so")
                library.parent.mkdir(exist_ok=True)
                build_data["force_include"][str(build(library, machine=MACHINE))] = place
        except BuildError as error:
            self.app.display_warning(f"Without kernels of our own: {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{wheel_platform(MACHINE)}"
