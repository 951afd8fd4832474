"""From a pack to an answer over HTTP on a box of aarch64 that has a system with Python, no more.

benchmarks/offline_box.py does it there; the packs are made on this machine.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.aarch64.box import CHECKOUT, Box
from tests.paths import ROOT

__all__ = ["first_answer"]

PROGRAM = Path("benchmarks/offline_box.py")
PACKS = Path("/packs")
TOOLCHAIN = (sys.executable, "-c", "from toolchain.cli import main; main()")
HOST = ("--host-cpu", "aarch64", "--python", "3.11")


def first_answer(box: Box, bundles: Path, wheels: Path) -> list[str]:
    """Installs two packs, the second since the first, and asks each server: a table in Markdown.

    Args:
        box: with openssl.
        bundles: has talk-int4 and talk-int8.
        wheels: all that a pack takes.

    Raises:
        CalledProcessError: a step failed, and said why.
    """
    directory = box.place(PACKS)
    directory.mkdir()
    key = directory / "key.pem"
    for arguments in (
        ("genpkey", "-algorithm", "ed25519", "-out", str(key)),
        ("pkey", "-in", str(key), "-pubout", "-out", str(directory / "key.pub")),
    ):
        subprocess.run(["openssl", *arguments], check=True)
    since: list[str] = []
    for name, pack in (("talk-int4", "box.tar"), ("talk-int8", "second.tar")):
        output = str(directory / pack)
        options = ("-o", output, *HOST, "--wheels", str(wheels), "--sign", str(key), *since)
        command = [*TOOLCHAIN, "pack", str(bundles / name), *options]
        subprocess.run(command, check=True, cwd=ROOT)
        since = ["--since", output]
    key.unlink()  # it stays on this machine
    program = box.place(CHECKOUT / PROGRAM)
    program.parent.mkdir(parents=True)
    shutil.copy(ROOT / PROGRAM, program)
    asked = box.run("python3.11", CHECKOUT / PROGRAM, "--on-the-box", PACKS)
    return ["| step | s | MB |", "|---|--:|--:|", *asked.stdout.splitlines()]
