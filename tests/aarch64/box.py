"""A box of aarch64 in a directory: commands run in it as on one, emulated by QEMU."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["BUNDLES", "CHECKOUT", "ENVIRONMENT", "PACKAGES", "Box"]

# In the box: the environment of the runtime, as docs/operate.md installs it; tests and documents,
# where commands run; and what they run on.
ENVIRONMENT = Path("/opt/alpaca2")
PACKAGES = ENVIRONMENT / "lib/python3.11/site-packages"
CHECKOUT = Path("/src/alpaca2")
BUNDLES = Path("/bundles")
ENTER = Path(__file__).with_name("enter.sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A root directory, and the static QEMU that runs what is in it.

    directory: on this machine; what a command names is below it.
    """

    directory: Path
    qemu: Path

    def run(
        self,
        *command: str | Path,
        check: bool = True,
        stdout: int | IO[str] = subprocess.PIPE,
        **variables: str | Path,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command at CHECKOUT, without a network; its stderr goes to this process's.

        Raises:
            CalledProcessError: the command failed, and that was not asked for.
        """
        given = [f"{name}={value}" for name, value in variables.items()]
        inside = ["env", f"--chdir={CHECKOUT}", *given, *command]
        entered: list[str | Path] = ["sh", ENTER, self.qemu, self.directory, *inside]
        return subprocess.run(entered, check=check, stdout=stdout, text=True)

    def place(self, path: Path) -> Path:
        """Where a path of the box lies on this machine."""
        return self.directory / path.relative_to("/")
