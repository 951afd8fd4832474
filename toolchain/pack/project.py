"""The checkout of this project: the files for operating a box, and the wheel of the runtime."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from runtime.progress import Progress
from toolchain.errors import PackError

__all__ = ["DISTRIBUTION", "Project", "run_pip"]

DISTRIBUTION = "alpaca2-toolchain"
OPERATE = "docs/operate"
UNIT = f"{OPERATE}/alpaca2@.service"
NO_WHEEL = re.compile(r"No matching distribution found for ([^\s;]+)")


@dataclass(frozen=True, slots=True)
class Project:
    """A checkout at `root`."""

    root: Path

    @classmethod
    def find(cls, given: Path | None) -> Self:
        """The checkout that is given, that this runs from, or that is the current directory.

        Raises:
            PackError: there is none.
        """
        places = [given] if given else [Path(__file__).parents[2], Path.cwd()]
        for place in places:
            if (place / "hatch_build.py").is_file() and (place / UNIT).is_file():
                return cls(place.absolute())
        raise PackError(
            "no checkout of this project",
            got=" and ".join(map(str, places)),
            allowed=f"a directory with {UNIT}",
            next_step="run it in the checkout, or give --project DIR",
        )

    def operate_files(self) -> list[Path]:
        """The unit of systemd, settings, examples."""
        return sorted((self.root / OPERATE).iterdir())

    def build_wheel(
        self, directory: Path, host_cpu: str, sources: Sequence[str], progress: Progress
    ) -> Path:
        """The wheel with the kernels of a CPU, made by hatch; sources are options of pip.

        Raises:
            PackError: pip cannot make it.
        """
        arguments = ["wheel", "--no-deps", "--wheel-dir", str(directory), *sources, str(self.root)]
        run_pip(arguments, progress, {"ALPACA2_KERNELS": host_cpu})
        [wheel] = directory.glob("*.whl")
        return wheel


def run_pip(
    arguments: Sequence[str], progress: Progress, environment: dict[str, str] | None = None
) -> None:
    """Runs this Python's pip, and tells of each package that it looks at.

    Raises:
        PackError: pip failed; says why and for which package.
    """
    command = [sys.executable, "-m", "pip", *arguments, "--progress-bar", "off"]
    lines = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(line.strip())
            if lines[-1].startswith(("Downloading", "Building wheel")):
                progress.step(lines[-1])
    if pip.returncode:
        raise _explained(arguments[0], lines)


def _explained(command: str, lines: Sequence[str]) -> PackError:
    found = NO_WHEEL.search("\n".join(lines))
    if found and command == "wheel":
        return PackError(
            f"the wheel of the runtime cannot be built without {found[1]}",
            next_step="mend the network or the index, or build that wheel elsewhere "
            "and put it into the directory of --wheels",
        )
    if found:
        return PackError(
            f"no wheel of {found[1]} for that CPU and Python",
            next_step="choose another --python, mend the network or the index, "
            "or put the wheels into a directory and give --wheels DIR",
        )
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
    return PackError(f"`pip {command}` failed", got=" ".join(errors))
