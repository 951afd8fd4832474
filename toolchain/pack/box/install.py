"""install.sh PACK: checks every byte of a pack, then installs it."""

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from toolchain.pack.box.archive import INSTALLER, check_files, read_pack, sums_text
from toolchain.pack.box.errors import BoxError
from toolchain.pack.box.releases import install
from toolchain.pack.box.signature import verify

__all__ = ["main"]

PREFIX = Path("/opt/alpaca2")


def main() -> None:
    """The command: 0 done, 1 an error in one line, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog=INSTALLER,
        description="Installs a pack: runtime and model for a box without a network.",
    )
    parser.add_argument(
        "pack", type=Path, metavar="PACK", help="the tar that `toolchain pack` made"
    )
    parser.add_argument("--prefix", type=Path, default=PREFIX, help=f"where to; default {PREFIX}")
    parser.add_argument(
        "--verify", type=Path, metavar="KEY", help="public key of who must have signed the pack"
    )
    parser.add_argument(
        "--service", type=int, metavar="PORT", help="make it a service of systemd, and start it"
    )
    parser.add_argument("--check", action="store_true", help="check the pack, install nothing")
    for number in (signal.SIGTERM, signal.SIGHUP):  # leave through every `finally`
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    os.umask(0o022)  # the service runs as a user of its own
    try:
        _run(parser.parse_args())
    except BoxError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # a full disk, a pack that is not there
        sys.exit(f"error: {(error.strerror or str(error)).lower()}: {error.filename}")
    except KeyboardInterrupt:
        sys.exit(130)


def _run(arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    if arguments.service is not None and arguments.prefix != PREFIX:
        raise BoxError(
            "the unit of systemd starts what lies in one place",
            got=arguments.prefix,
            allowed=PREFIX,
            next_step="leave out --prefix, or start the server by yourself",
        )
    with arguments.pack.open("rb") as stream:
        pack = read_pack(stream)
        verify(sums_text(pack.sums), pack.signature, arguments.verify)
        check_files(stream, pack)
        _say(f"checked {stream.tell() / 1e6:.1f} MB: {time.monotonic() - began:.1f} s")
        if arguments.check:
            return
        _check_box(pack.info)
        _say(f"installing pack {pack.name} below {arguments.prefix}")
        release = install(stream, pack, arguments.prefix.absolute())
    _say(f"installed: {time.monotonic() - began:.1f} s")
    print(release, flush=True)
    if arguments.service is not None:
        command = [str(release / "env/bin/python"), "-I", "-m", "toolchain.pack.service"]
        command += [str(release), str(arguments.service)]
        sys.exit(subprocess.run(command).returncode)


def _check_box(info: dict[str, Any]) -> None:
    """Refuses a box of another kind than the pack is for."""
    major, minor = sys.version_info[:2]
    for what, key, got in (
        ("CPU", "host_cpu", platform.machine()),
        ("Python", "python", f"{major}.{minor}"),
    ):
        if got != info[key]:
            option = f"--{key.replace('_', '-')} {got}"
            raise BoxError(
                f"the pack is for another {what}",
                got=got,
                allowed=info[key],
                next_step=f"make one with `toolchain pack {option}`",
            )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
