"""A root directory of Debian for aarch64, from the packages that this machine's apt knows.

apt gets a state of its own, so that nothing changes on this machine. The packages are unpacked, not
configured: no script of theirs runs.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["BARE", "SERVICES", "make_root"]

# A system with Python. libstdc++6 is for ONNX Runtime.
BARE = ("?essential", "base-files", "libstdc++6", "netbase", "python3.11", "python3.11-venv")
SERVICES = ("nginx-light", "openssl", "systemd")  # what the tests of a box want besides

CONFIGURATION = """
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::State "{state}";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
"""
MERGED = ("bin", "lib", "sbin")  # links into usr/ since Debian 12
CPUINFO = """processor\t: {number}
BogoMIPS\t: 100.00
Features\t: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""  # a Neoverse N1
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


def make_root(root: Path, packages: Sequence[str], state: Path) -> None:
    """Loads packages and all that they depend on, and unpacks them into a new directory.

    Args:
        root: the directory, which appears when it is complete.
        packages: names, or patterns of apt.
        state: apt's directory, which keeps what was loaded.

    Raises:
        CalledProcessError: apt or dpkg-deb failed; it said why on stderr.
    """
    making = root.with_name(f"{root.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    for name in MERGED:
        (making / "usr" / name).mkdir(parents=True)
        (making / name).symlink_to(f"usr/{name}")
    for archive in _load(packages, state):
        _unpack(archive, making)
    (making / "etc/hosts").write_text(HOSTS)
    cpus = (CPUINFO.format(number=number) for number in range(os.cpu_count() or 1))
    (making / "etc/cpuinfo").write_text("".join(cpus))
    for name in ("group", "passwd"):
        shutil.copy(making / f"usr/share/base-passwd/{name}.master", making / "etc" / name)
    making.rename(root)


def _load(packages: Sequence[str], state: Path) -> list[Path]:
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    archives = state / "cache/archives"
    (state / "status").write_text("")  # nothing is installed yet
    configuration = state / "apt.conf"
    configuration.write_text(CONFIGURATION.format(state=state))
    environment = os.environ | {"APT_CONFIG": str(configuration)}
    install = ("install", "--download-only", "--yes", *packages)
    for arguments in (("update",), install):
        command = ["apt-get", "-qq", *arguments]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return sorted(archives.glob("*.deb"))


def _unpack(archive: Path, root: Path) -> None:
    """With links of directories kept, and every file as whoever unpacks it."""
    read = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    write = ["tar", "-x", "--no-same-owner", "--keep-directory-symlink", "-C", str(root)]
    with subprocess.Popen(read, stdout=subprocess.PIPE) as reader:
        subprocess.run(write, stdin=reader.stdout, check=True)
    if reader.returncode:
        raise subprocess.CalledProcessError(reader.returncode, read)
