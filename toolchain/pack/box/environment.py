"""The Python environment of a release, from the wheels that lie in it."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from toolchain.pack.box.archive import WHEELS_DIR
from toolchain.pack.box.errors import BoxError

__all__ = ["make_environment"]


def make_environment(release: Path, wheel: str, extras: Sequence[str]) -> None:
    """Makes `env` in a release, with a wheel of it, extras of that, and what these need.

    Debian has venv without ensurepip, so pip runs from its own wheel, with no settings of the box.

    Raises:
        BoxError: this Python has no venv, or pip cannot install the wheels.
    """
    try:
        import venv
    except ImportError as error:
        raise BoxError(
            "this Python has no module venv",
            next_step="install the whole standard library of Python, on Debian libpython3-stdlib",
        ) from error
    environment, wheels = release / "env", release / WHEELS_DIR
    venv.EnvBuilder(symlinks=True).create(environment)
    [pip] = wheels.glob("pip-*.whl")
    command = [str(environment / "bin/python"), "-I", str(pip / "pip"), "install", "--no-index"]
    command += ["--no-cache-dir", "--find-links", str(wheels)]
    command += [f"{release / wheel}[{','.join(extras)}]"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    ran = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**inherited, "PIP_CONFIG_FILE": os.devnull},
    )
    if ran.returncode:
        lines = ran.stdout.splitlines()
        raise BoxError(
            "pip cannot install the wheels of the pack",
            got=" ".join([line for line in lines if line.startswith("ERROR")] or lines[-1:]),
            next_step="make the pack for this CPU, Python and C library",
        )
