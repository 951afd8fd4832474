"""The machine as files, variables, programs and Python packages; all probing goes through here.

Nothing is imported to be looked at: torch_npu without CANN can end the process. With another
root, the same code looks at a directory tree that emulates a machine.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import distributions
from pathlib import Path
from typing import Self

__all__ = ["System"]

TIMEOUT = 10.0  # seconds; npu-smi hangs when the driver does


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A machine.

    root: where its file system begins.
    python: version of the interpreter that the runtime would use, None without one.
    python_path: where that interpreter looks for modules, besides PYTHONPATH.
    """

    root: Path
    environ: Mapping[str, str]
    python: str | None
    python_path: tuple[str, ...]

    @classmethod
    def here(cls) -> Self:
        """The machine that this runs on."""
        return cls(
            root=Path("/"),
            environ=os.environ,
            python=platform.python_version(),
            python_path=tuple(sys.path),
        )

    def head(self, path: str, size: int) -> bytes:
        """The first bytes of a file, none where it cannot be read."""
        try:
            with self._at(path).open("rb") as file:
                return file.read(size)
        except OSError:
            return b""

    def text(self, path: str) -> str | None:
        """A file's text, None where it cannot be read."""
        try:
            return self._at(path).read_text(errors="replace")
        except OSError:
            return None

    def is_dir(self, path: str) -> bool:
        """Whether the path is a directory."""
        return self._at(path).is_dir()

    def is_below(self, path: str, folder: str) -> bool:
        """Whether the path is in the folder, by whatever links lead there."""
        return bool(folder) and self._at(path).resolve().is_relative_to(self._at(folder).resolve())

    def glob(self, folder: str, pattern: str) -> list[str]:
        """Names in a folder that match."""
        return sorted(path.name for path in self._at(folder).glob(pattern))

    def search(self, variable: str, name: str) -> str | None:
        """The first file of this name in the folders that a variable such as PATH lists."""
        for folder in self._folders(variable):
            if self._at(f"{folder}/{name}").is_file():
                return f"{folder}/{name}"
        return None

    def run(self, *command: str) -> str | None:
        """What a program prints, None where it is absent, fails or takes too long."""
        program = self.search("PATH", command[0])
        if program is None:
            return None
        try:
            done = subprocess.run(
                [self._at(program), *command[1:]],
                env={**self.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout

    def module(self, name: str) -> str | None:
        """The file that `import name` would load first."""
        spec = PathFinder.find_spec(name, self._module_folders())
        if spec is None or spec.origin is None:
            return None
        return f"/{Path(spec.origin).relative_to(self.root)}"

    def distribution(self, name: str) -> str | None:
        """The version of an installed Python package."""
        found = distributions(name=name, path=self._module_folders())
        return next((each.version for each in found), None)

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _folders(self, variable: str) -> list[str]:
        # A relative folder depends on where the command is called from.
        return [each for each in self.environ.get(variable, "").split(":") if each.startswith("/")]

    def _module_folders(self) -> list[str]:
        folders = [*self._folders("PYTHONPATH"), *self.python_path]
        return [str(self._at(each)) for each in folders if each.startswith("/")]
